"""Gradients in fp16 are those of float32 also where they are smaller or larger than fp16's numbers."""

import pytest
import torch
from torch import Tensor

from charlstm.machine import Machine
from charlstm.training import gradients
from charlstm.training.gradients import compute_gradients

from .trainers import enlarge_weights, make


def gradients_of(precision: str, output_scale: float) -> list[Tensor]:
    """Of the first batch, by a model whose other layers' gradients are as small or large as its output layer is."""
    trainer = enlarge_weights(make(dropout=0.0))
    with torch.no_grad():
        trainer.model.output.weight *= output_scale
    return compute_gradients(
        trainer.model,
        trainer.objective,
        trainer.batches.batch(0),
        None,
        settings=trainer.settings,
        step=0,
        machine=Machine(torch.device("cpu"), precision, shards=1, threads=1),
        shards=trainer.shards,
        local=False,
    ).sums


def difference(precision: str, output_scale: float) -> float:
    """The largest of all parameters, relative to a gradient's norm."""
    pairs = zip(gradients_of(precision, output_scale), gradients_of("fp32", output_scale), strict=True)
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def test_gradients_in_fp16_are_those_of_float32_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(float(gradient.abs().max()) for gradient in gradients_of("fp32", 1e-6)[1:-2]) < 1e-6
    assert 0 < difference("fp16", 1e-6) < 0.05
    monkeypatch.setattr(gradients, "FP16_SCALES", (1.0,))
    assert difference("fp16", 1e-6) > 0.2


def test_gradients_in_fp16_are_those_of_float32_however_large() -> None:
    assert max(float(gradient.abs().max()) for gradient in gradients_of("fp32", 300.0)) > 65504 / 4096
    assert 0 < difference("fp16", 300.0) < 0.2
