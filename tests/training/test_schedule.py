"""The learning rate is a function of the step and the end; the optimiser decays what it should."""

import itertools
import math
from typing import Any, Literal

import pytest
import torch

from charlstm.networks import CharLM
from charlstm.settings import ModelSettings, TrainingSettings
from charlstm.training.optimizers import build_optimizers
from charlstm.training.schedule import highest_rate, learning_rate_at

from .trainers import E, H, L, V, make, one_by_one


def rate(step: int, total: int | None, **settings: Any) -> float:
    return learning_rate_at(step, 0.8, TrainingSettings(**settings), total)


def test_trainer_rate_warms_up_in_a_line_from_above_zero() -> None:
    assert [rate(step, 100, warmup_steps=4) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rate(0, 100, warmup_steps=0) == 0.8


def test_trainer_rate_is_half_a_cosine_to_zero_at_the_end() -> None:
    rates = [rate(step, 104, warmup_steps=4) for step in range(4, 105)]
    assert rates == pytest.approx([0.4 * (1 + math.cos(math.pi * elapsed / 100)) for elapsed in range(101)])
    assert rates[0] == 0.8
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))
    assert rate(9999, 104, warmup_steps=4) == pytest.approx(0.0, abs=1e-12)  # past the end it does not rise again


def test_trainer_rate_is_constant_if_asked_or_while_the_end_is_unknown() -> None:
    assert {rate(step, 20, schedule="constant", warmup_steps=2) for step in range(2, 50)} == {0.8}
    assert {rate(step, None, warmup_steps=2) for step in range(2, 50)} == {0.8}
    assert rate(3, 3, warmup_steps=5) == pytest.approx(0.8 * 4 / 5)  # a run that ends in its warm-up


@pytest.mark.parametrize(
    ("optimizer", "rates"), [("muon", [0.04, 0.03, 0.02, 0.02]), ("adamw", [0.016, 0.016, 0.016, 0.0053])]
)
def test_trainer_highest_rate_is_the_given_one_or_suits_the_optimiser_and_the_layers(
    optimizer: Literal["muon", "adamw"], rates: list[float]
) -> None:
    automatic = TrainingSettings(optimizer=optimizer)
    assert [highest_rate(automatic, size) for size in (96, 128, 256, 768)] == rates
    assert highest_rate(TrainingSettings(optimizer=optimizer, learning_rate=0.7), 96) == 0.7


def test_trainer_takes_the_rate_of_each_step() -> None:
    trainer = make(max_steps=9)
    for facts in trainer.steps():
        assert facts.learning_rate == learning_rate_at(facts.step - 1, trainer.highest_rate, trainer.settings, 9)
        assert {group["lr"] for each in trainer.optimizers.each for group in each.param_groups} == {facts.learning_rate}


@pytest.mark.parametrize(("optimizer", "decay"), [("adamw", 0.1 * 0.5), ("muon", 0.1 * 0.5), ("adam", 0.0)])
@pytest.mark.parametrize("cell", ["lstm", "peephole"])
def test_trainer_weight_decay_is_that_of_adamw_and_acts_on_matrices_only(
    cell: str, optimizer: str, decay: float
) -> None:
    model = CharLM(V, ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
            parameter.grad = torch.zeros_like(parameter)
    settings = TrainingSettings(optimizer=optimizer, weight_decay=0.5)  # type: ignore[arg-type]
    build_optimizers(model, settings, dtype=torch.float32, map_tensors=one_by_one).step(0.1)
    for name, parameter in model.named_parameters():
        if "weight_ch" not in name:
            kept = 1.0 if "bias" in name else 1 - decay
            assert torch.allclose(parameter, torch.full_like(parameter, 2.0 * kept)), name
