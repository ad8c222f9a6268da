"""Gradients in fp16 are those of float32 also where they are smaller than fp16's numbers."""

import pytest
import torch
from torch import Tensor

from charlstm.machine import Machine
from charlstm.training import gradients
from charlstm.training.gradients import compute_gradients

from .trainers import enlarge_weights, make


def gradients_of(precision: str) -> list[Tensor]:
    """Of the first batch, by a model whose output layer says so little that the others' gradients are tiny."""
    trainer = enlarge_weights(make(dropout=0.0))
    with torch.no_grad():
        trainer.model.output.weight *= 1e-6
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


def difference(precision: str) -> float:
    """The largest of all parameters, relative to a gradient's norm."""
    pairs = zip(gradients_of(precision), gradients_of("fp32"), strict=True)
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def test_gradients_in_fp16_are_those_of_float32_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(float(gradient.abs().max()) for gradient in gradients_of("fp32")[1:-2]) < 1e-6
    assert 0 < difference("fp16") < 0.05
    monkeypatch.setattr(gradients, "FP16_SCALE", 1.0)
    assert difference("fp16") > 0.2
