"""Small trainers for the tests of this folder, and what they do, without the clock.

Letters: `B` lanes, `T` steps, `V` vocabulary, `E` embedding, `H` hidden, `L` layers.
"""

import itertools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from charlstm.machine import Machine
from charlstm.networks import OBJECTIVES
from charlstm.settings import ModelSettings, TrainingSettings
from charlstm.text import Lanes
from charlstm.training import StepFacts, Trainer, clock
from charlstm.training import trainer as trainer_module

V, E, H, L, B, T = 11, 5, 7, 2, 3, 6
CHARS = 112
LANE = (CHARS - 1) // B
EPOCH = LANE // T  # steps
FACTS = ("step", "chars", "loss", "learning_rate", "grad_norm", "total_steps", "validation", "is_best", "stopped_by")


def one_by_one(function: Callable[[Any], Any], things: Sequence[Any]) -> list[Any]:
    """As `Shards.each`, of one thread."""
    return [function(thing) for thing in things]


def text(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(V, size=n).astype(np.uint8)


def make(
    *,
    dropout: float = 0.5,
    model_seed: int = 4,
    train: int = CHARS,
    val: int = 157,
    cell: str = "lstm",
    shards: int = 1,
    threads: int = 1,
    objective: str = "next",
    **settings: Any,
) -> Trainer:
    defaults = {
        "batch_size": B,
        "sequence_length": T,
        "warmup_steps": 3,
        "max_steps": 14,
        "validate_every_steps": 4,
        "learning_rate": 0.02,
    }
    training = TrainingSettings(**{**defaults, **settings})
    model = ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L, dropout=dropout)  # type: ignore[arg-type]
    return Trainer(
        OBJECTIVES[objective].build_model(V, model, seed=model_seed),
        OBJECTIVES[objective],
        training,
        batches=Lanes(text(train), training.batch_size, training.sequence_length),
        validation_ids=text(val, seed=2),
        start_id=0,
        machine=Machine(torch.device("cpu"), "fp32", shards=shards, threads=threads),
    )


def take(trainer: Trainer, count: int) -> list[StepFacts]:
    return list(itertools.islice(trainer.steps(), count))


def shown(facts: list[StepFacts]) -> list[tuple[Any, ...]]:
    """Everything about the steps but the clock."""
    return [tuple(getattr(fact, name) for name in FACTS) for fact in facts]


def losses(trainer: Trainer) -> list[float]:
    return [facts.loss for facts in trainer.steps()]


STILL = {"dropout": 0.0, "learning_rate": 1e-30, "weight_decay": 0.0, "val": 0}  # settings that move no weight


def enlarge_weights(trainer: Trainer) -> Trainer:
    """Have the recurrent state matter."""
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.normal_(std=0.8, generator=torch.Generator().manual_seed(8))
    return trainer


class Clock:
    """A clock that moves when told, and by as much for every step that is taken on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_seconds: float = 0.0) -> None:
        self.now, self.worked, self.step_seconds = 0.0, 0.0, step_seconds
        clocks = SimpleNamespace(perf_counter=lambda: self.now, process_time=lambda: self.worked)
        monkeypatch.setattr(clock, "time", clocks)
        compute = trainer_module.compute_gradients

        def timed(*args: Any, **more: Any) -> Any:
            self.now += self.step_seconds
            return compute(*args, **more)

        monkeypatch.setattr(trainer_module, "compute_gradients", timed)
