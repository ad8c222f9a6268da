"""Trainer: each step is the plain torch step, all is a function of the step, and the whole state goes in and out."""

import builtins
import io
import math
import os
import re
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from charlstm.networks import CharLM
from charlstm.runs.progress import decode_progress
from charlstm.text import Batch
from charlstm.training.optimizers import Optimizers

from ..small_runs import bits
from .trainers import EPOCH, LANE, STILL, B, E, H, T, V, enlarge_weights, losses, make, shown, take, text

# Exact resume


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw"},
        {"optimizer": "adam", "schedule": "constant", "clip_norm": 0.3},
        {"optimizer": "muon", "shards": 2, "threads": 2},
        {"patience": 1, "learning_rate": 0.3, "validate_every_steps": 3},
    ],
    ids=["adamw", "adam", "muon", "patience"],
)
def test_trainer_restored_after_any_step_goes_on_bit_for_bit(settings: dict[str, Any]) -> None:
    whole = make(**settings)
    snapshots = [whole.export()]
    facts = []
    for fact in whole.steps():
        facts.append(fact)
        snapshots.append(whole.export())
    without_clock = bits(snapshots[-1])
    assert "patience" not in settings or len(facts) < 14  # it did stop the run
    for step, snapshot in enumerate(snapshots):
        resumed = make(**settings, model_seed=99)
        take(resumed, 2)  # which is forgotten
        resumed.restore(snapshot)
        assert shown(list(resumed.steps())) == shown(facts[step:])
        assert bits(resumed.export()) == without_clock


def test_trainer_exports_copies_that_later_steps_leave_alone() -> None:
    trainer = make()
    take(trainer, 2)
    exported = trainer.export()
    before = bits(exported)
    take(trainer, 3)
    assert bits(exported) == before != bits(trainer.export())


def test_trainer_goes_on_from_an_earlier_version_that_did_not_count_characters() -> None:
    trainer = make()
    take(trainer, 3)
    checkpoint = trainer.export()
    fields = msgspec.to_builtins(checkpoint.progress)
    assert fields.pop("chars") == 3 * B * T
    earlier = decode_progress(msgspec.json.encode(fields), where="it")
    resumed = make()
    resumed.restore(replace(checkpoint, progress=earlier))
    assert take(resumed, 1)[0].chars == 4 * B * T


# Nothing but the step matters


def test_trainer_losses_do_not_depend_on_the_cadence_of_anything() -> None:
    expected = losses(make(validate_every_steps=1000, val=0))
    for cadence in (1, 3, 7):
        assert losses(make(validate_every_steps=cadence, log_every_steps=cadence, save_every_steps=cadence)) == expected
    exporting = make()
    found = []
    for facts in exporting.steps():
        exporting.export()
        torch.rand(3)
        found.append(facts.loss)
    assert found == expected


@pytest.mark.parametrize("shards", [2, 3])
@pytest.mark.parametrize(
    ("cell", "objective", "optimizer"),
    [("lstm", "next", "muon"), ("peephole", "next", "adamw"), ("gru", "cloze", "muon")],
)
def test_trainer_bits_do_not_depend_on_the_number_of_threads(
    cell: str, objective: str, optimizer: str, shards: int
) -> None:
    def train(threads: int) -> tuple[Any, ...]:
        given = {"cell": cell, "objective": objective, "optimizer": optimizer, "shards": shards}
        trainer = make(**given, batch_size=7, threads=threads, max_steps=4)
        return shown(list(trainer.steps())), bits(trainer.export())

    alone = train(1)
    assert train(2) == alone
    assert train(3) == alone


def test_trainer_shards_change_rounding_alone_and_with_dropout_the_masks() -> None:
    expected = losses(make(batch_size=7, dropout=0.0, max_steps=5))
    for shards in (2, 3, 7):
        assert losses(make(batch_size=7, dropout=0.0, max_steps=5, shards=shards)) == pytest.approx(expected, abs=1e-4)
    assert losses(make(batch_size=7, max_steps=5, shards=2)) != pytest.approx(
        losses(make(batch_size=7, max_steps=5)), abs=1e-4
    )


def test_trainer_dropout_depends_on_the_seed_and_the_step_alone() -> None:
    torch.manual_seed(123)
    first = losses(make(seed=1))
    torch.manual_seed(456)
    assert losses(make(seed=1)) == first
    assert losses(make(seed=2)) != first
    assert losses(make(dropout=0.0)) != first
    frozen_losses = losses(make(**{**STILL, "dropout": 0.5}, max_steps=EPOCH + 1))
    assert frozen_losses[0] != frozen_losses[EPOCH]  # the same window and weights, another step's mask


# One step


class PlainModel(nn.Module):
    """What a tutorial would write."""

    def __init__(self, copied: CharLM) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, E)
        self.layers = nn.ModuleList([nn.LSTM(E, H), nn.LSTM(H, H)])
        self.output = nn.Linear(2 * H, V)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(copied.get_parameter(self.name_in_run(name)))

    @staticmethod
    def name_in_run(name: str) -> str:
        return re.sub(r"layers\.(\d)\.(\w+)_l0", r"core.\2_l\1", name)

    def forward(self, ids: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        x, outputs, after = self.embedding(ids), [], []
        for layer, before in zip(self.layers, state or (None, None), strict=True):
            x, of_layer = layer(x, before)
            outputs.append(x)
            after.append(of_layer)
        return self.output(torch.cat(outputs, dim=2)), after


@pytest.mark.parametrize("clip_norm", [0.05, None])
def test_trainer_step_is_the_plain_torch_step(clip_norm: float | None) -> None:
    constant: dict[str, Any] = {"schedule": "constant", "warmup_steps": 0, "weight_decay": 0.3}
    trainer = make(**constant, optimizer="adamw", dropout=0.0, clip_norm=clip_norm, val=0, max_steps=EPOCH + 3)
    plain = PlainModel(trainer.model)
    matrices, vectors = ([p for p in plain.parameters() if (p.ndim > 1) is wanted] for wanted in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}], lr=0.02
    )
    ids = torch.from_numpy(text(LANE * B + 1).astype(np.int64))
    state = None
    for step, facts in enumerate(trainer.steps()):
        if step == EPOCH:
            state = None
        window = torch.stack([ids[b * LANE + step % EPOCH * T :][: T + 1] for b in range(B)], dim=1)  # (T + 1, B)
        logits, state = plain(window[:-1], state)
        state = tuple(tuple(part.detach() for part in of_layer) for of_layer in state)
        loss = F.cross_entropy(logits.flatten(0, 1), window[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in plain.parameters()))
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), clip_norm)
        optimizer.step()
        assert facts.loss == pytest.approx(loss.item(), abs=1e-5)
        assert facts.grad_norm == pytest.approx(norm, rel=1e-3)
        if step == 0:
            for name, parameter in plain.named_parameters():
                assert (trainer.model.get_parameter(plain.name_in_run(name)) - parameter).abs().max() < 1e-6
    assert facts.chars == (EPOCH + 3) * B * T


def test_trainer_carries_the_state_through_an_epoch_and_begins_the_next_without() -> None:
    """With weights that stay as they are, an epoch's losses are those of each lane read in one go from zero."""
    trainer = enlarge_weights(make(**STILL, max_epochs=2, max_steps=None))
    ids = torch.from_numpy(text(LANE * B + 1).astype(np.int64))
    lanes = torch.stack([ids[b * LANE :][: EPOCH * T + 1] for b in range(B)], dim=1)  # (EPOCH · T + 1, B)
    with torch.no_grad():
        logits, _ = trainer.model(lanes[:-1])
        nats = F.cross_entropy(logits.flatten(0, 1), lanes[1:].flatten(), reduction="none").view(EPOCH, T * B).mean(1)
        fresh, _ = trainer.model(lanes[T : 2 * T])
    found = losses(trainer)
    assert found[:EPOCH] == pytest.approx(nats.tolist(), abs=1e-5)
    assert found[EPOCH:] == found[:EPOCH]
    without_state = F.cross_entropy(fresh.flatten(0, 1), lanes[T + 1 : 2 * T + 1].flatten()).item()
    assert abs(without_state - found[1]) > 1e-3  # or the state would not matter here


@pytest.mark.parametrize(("clip_norm", "fraction"), [(0.01, None), (None, 1.0), (1e6, 1.0)])
def test_trainer_clipping_bounds_the_gradient_that_is_followed(clip_norm: float | None, fraction: float | None) -> None:
    """Plain gradient descent moves the weights by the rate times the gradient, so its length can be measured."""
    trainer = make(clip_norm=clip_norm, warmup_steps=0, schedule="constant", learning_rate=0.25, dropout=0.0)
    trainer.optimizers = Optimizers([torch.optim.SGD(trainer.model.parameters(), lr=1.0)])
    before = trainer.export().weights
    (facts,) = take(trainer, 1)
    after = trainer.export().weights
    moved = math.sqrt(sum(float(np.square(after[name].astype(np.float64) - before[name]).sum()) for name in before))
    expected = 0.25 * (facts.grad_norm * fraction if fraction is not None else 0.01)
    assert facts.grad_norm > 0.02
    assert moved == pytest.approx(expected, rel=1e-3)


class ShortDocuments:
    """Batches that mask some characters and have only some lanes begin afresh."""

    batch_size, steps_per_epoch, chars_per_step = B, 5, B * T

    def batch(self, step: int) -> Batch:
        ids = text(B * (T + 1), seed=step).reshape(T + 1, B).astype(np.int64)
        mask = np.arange(T)[:, None] < np.array([T, 2, 4])
        return Batch(ids[:-1], ids[1:], mask, np.array([step % 2 == 0, step == 0, False]))


def test_trainer_counts_what_the_mask_lets_count_and_resets_the_lanes_that_begin_afresh() -> None:
    trainer = enlarge_weights(make(**STILL, max_steps=4))
    trainer.batches = documents = ShortDocuments()
    found = losses(trainer)
    states: list[Any] = [None] * B
    for step, loss in enumerate(found):
        batch = documents.batch(step)
        nats, chars = 0.0, 0
        for lane in range(B):
            before = None if batch.fresh[lane] else states[lane]
            inputs, following = (torch.from_numpy(part[:, lane : lane + 1]) for part in batch[:2])
            with torch.no_grad():
                logits, states[lane] = trainer.model(inputs, before)
            each = F.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="none")
            nats += float(each[torch.from_numpy(batch.mask[:, lane])].sum())
            chars += int(batch.mask[:, lane].sum())
        assert loss == pytest.approx(nats / chars, abs=1e-5)


def test_trainer_prints_nothing_and_opens_no_file(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(make().steps())  # what torch loads at first use

    def refuse(path: Any, *_args: Any, **_rest: Any) -> Any:
        raise AssertionError(f"opened {path}")

    trainer = make()
    with monkeypatch.context() as patch:
        for module in (builtins, io, os):
            patch.setattr(module, "open", refuse)
        list(trainer.steps())
        trainer.restore(trainer.export())
    assert capfd.readouterr() == ("", "")
