"""Trainer: each step is the plain torch step, all is a function of the step, and the whole state goes in and out.

Letters: `B` lanes, `T` steps, `V` vocabulary, `E` embedding, `H` hidden, `L` layers.
"""

import builtins
import io
import itertools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from charlstm.errors import DivergedError
from charlstm.evaluation import Tally
from charlstm.machine import Machine
from charlstm.networks import OBJECTIVES, CharLM
from charlstm.runs import Checkpoint
from charlstm.runs.progress import decode_progress
from charlstm.settings import ModelSettings, TrainingSettings
from charlstm.text import Batch, Lanes
from charlstm.training import StepFacts, Trainer
from charlstm.training import trainer as trainer_module
from charlstm.training.schedule import FORWARD_FRACTION, learning_rate_at
from charlstm.training.trainer import build_optimizer

V, E, H, L, B, T = 11, 5, 7, 2, 3, 6
EPOCH = 22  # steps: (400 − 1) // 3 // 6
MODEL = ModelSettings(embedding_size=E, hidden_size=H, num_layers=L)
FACTS = ("step", "chars", "loss", "learning_rate", "grad_norm", "total_steps", "validation", "is_best", "stopped_by")


def text(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(V, size=n).astype(np.uint8)


def make(
    *,
    dropout: float = 0.5,
    model_seed: int = 4,
    train: int = 400,
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
        "max_steps": 30,
        "validate_every_steps": 4,
        "learning_rate": 0.02,
    }
    training = TrainingSettings(**{**defaults, **settings})
    model = ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L)  # type: ignore[arg-type]
    return Trainer(
        OBJECTIVES[objective].build_model(V, model, seed=model_seed),
        OBJECTIVES[objective],
        training,
        dropout=dropout,
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


def bits(checkpoint: Checkpoint) -> tuple[Any, ...]:
    """The state as values that are equal only if every bit is, but for the clock."""
    arrays = [
        {name: array.tobytes() for name, array in part.items()} for part in (checkpoint.weights, checkpoint.training)
    ]
    return *arrays, msgspec.structs.replace(checkpoint.progress, seconds=0.0, validation_seconds=0.0)


class Clock:
    """A clock that only moves when told, or by a fixed amount each time it is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds_per_look: float = 0.0) -> None:
        self.now, self.seconds_per_look = 0.0, seconds_per_look
        monkeypatch.setattr(trainer_module, "time", SimpleNamespace(perf_counter=self))

    def __call__(self) -> float:
        self.now += self.seconds_per_look
        return self.now


# Exact resume


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "adam", "schedule": "constant", "clip_norm": 0.3},
        {"patience": 2, "learning_rate": 0.1, "validate_every_steps": 3},
    ],
    ids=["adamw", "adam", "patience"],
)
def test_trainer_restored_after_any_step_goes_on_bit_for_bit(settings: dict[str, Any]) -> None:
    whole = make(**settings)
    snapshots = [whole.export()]
    facts = []
    for fact in whole.steps():
        facts.append(fact)
        snapshots.append(whole.export())
    assert "patience" not in settings or len(facts) < 30  # it did stop the run
    for step, snapshot in enumerate(snapshots):
        resumed = make(**settings, model_seed=99)
        resumed.restore(snapshot)
        assert shown(list(resumed.steps())) == shown(facts[step:])
        assert bits(resumed.export()) == bits(snapshots[-1])


def test_trainer_may_be_interrupted_at_every_step() -> None:
    whole = make()
    expected = shown(list(whole.steps()))
    found, state = [], make().export()
    while len(found) < len(expected):
        one = make(model_seed=99)
        one.restore(state)
        found += shown(take(one, 1))
        state = one.export()
    assert found == expected
    assert bits(state)[:2] == bits(whole.export())[:2]


def test_trainer_restoring_a_beginning_forgets_what_was_trained() -> None:
    beginning = make().export()
    used = make(model_seed=5)
    take(used, 7)
    used.restore(beginning)
    assert losses(used) == losses(make())


def test_trainer_exports_copies_that_later_steps_leave_alone() -> None:
    trainer = make()
    take(trainer, 2)
    exported = trainer.export()
    before = bits(exported)
    take(trainer, 3)
    assert bits(exported) == before != bits(trainer.export())


def test_trainer_restored_with_a_higher_limit_goes_on_to_it() -> None:
    short = make(max_steps=6)
    assert [facts.step for facts in short.steps()] == list(range(1, 7))
    longer = make(max_steps=9)
    longer.restore(short.export())
    assert [facts.step for facts in longer.steps()] == [7, 8, 9]


def test_trainer_restored_without_its_limit_of_steps_is_not_held_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, seconds_per_look=0.5)
    limited = make(max_steps=6, max_minutes=1.0, val=0)
    assert len(list(limited.steps())) == 6
    freed = make(max_steps=None, max_minutes=1.0, val=0)
    freed.restore(limited.export())
    assert [facts.step for facts in freed.steps()] == list(range(7, 121))


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
@pytest.mark.parametrize(("cell", "objective"), [("lstm", "next"), ("peephole", "next"), ("gru", "cloze")])
def test_trainer_bits_do_not_depend_on_the_number_of_threads(cell: str, objective: str, shards: int) -> None:
    def train(threads: int) -> tuple[Any, ...]:
        trainer = make(cell=cell, objective=objective, batch_size=7, shards=shards, threads=threads, max_steps=9)
        return shown(list(trainer.steps())), bits(trainer.export())

    alone = train(1)
    assert train(2) == alone
    assert train(3) == alone


def test_trainer_shards_change_rounding_alone_and_with_dropout_the_masks() -> None:
    expected = losses(make(batch_size=7, dropout=0.0, max_steps=12))
    for shards in (2, 3, 7):
        assert losses(make(batch_size=7, dropout=0.0, max_steps=12, shards=shards)) == pytest.approx(expected, abs=1e-4)
    assert losses(make(batch_size=7, shards=2)) != pytest.approx(losses(make(batch_size=7)), abs=1e-4)


def test_trainer_dropout_depends_on_the_seed_and_the_step_alone() -> None:
    torch.manual_seed(123)
    first = losses(make(seed=1))
    torch.manual_seed(456)
    assert losses(make(seed=1)) == first
    assert losses(make(seed=2)) != first
    assert losses(make(dropout=0.0)) != first
    frozen = make(learning_rate=1e-30, weight_decay=0.0, max_steps=EPOCH + 1, val=0)
    frozen_losses = losses(frozen)
    assert frozen_losses[0] != frozen_losses[EPOCH]  # the same window and weights, another step's mask


# One step


class PlainModel(nn.Module):
    """What a tutorial would write."""

    def __init__(self, copied: CharLM) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, E)
        self.core = nn.LSTM(E, H, num_layers=L)
        self.output = nn.Linear(H, V)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(copied.get_parameter(name))

    def forward(self, ids: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        x, state = self.core(self.embedding(ids), state)
        return self.output(x), state


@pytest.mark.parametrize("clip_norm", [0.05, None])
def test_trainer_step_is_the_plain_torch_step(clip_norm: float | None) -> None:
    trainer = make(dropout=0.0, clip_norm=clip_norm, val=0, weight_decay=0.3, schedule="constant", warmup_steps=0)
    plain = PlainModel(trainer.model)
    matrices, vectors = ([p for p in plain.parameters() if (p.ndim > 1) is wanted] for wanted in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}], lr=0.02
    )
    ids = torch.from_numpy(text(400).astype(np.int64))
    state = None
    for step, facts in enumerate(itertools.islice(trainer.steps(), EPOCH + 3)):
        if step == EPOCH:
            state = None
        window = torch.stack([ids[b * 133 + step % EPOCH * T :][: T + 1] for b in range(B)], dim=1)  # (T + 1, B)
        logits, state = plain(window[:-1], state)
        state = tuple(part.detach() for part in state)
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
                assert (trainer.model.get_parameter(name) - parameter).abs().max() < 1e-6
    assert facts.chars == (EPOCH + 3) * B * T


def test_trainer_first_loss_is_that_of_a_uniform_guess() -> None:
    assert take(make(), 1)[0].loss == pytest.approx(math.log(V), rel=0.01)


def test_trainer_carries_the_state_through_an_epoch_and_begins_the_next_without() -> None:
    """With weights that stay as they are, an epoch's losses are those of each lane read in one go from zero."""
    trainer = make(dropout=0.0, learning_rate=1e-30, weight_decay=0.0, max_epochs=2, max_steps=None, val=0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.normal_(std=0.8, generator=torch.Generator().manual_seed(8))
    ids = torch.from_numpy(text(400).astype(np.int64))
    lanes = torch.stack([ids[b * 133 :][: EPOCH * T + 1] for b in range(B)], dim=1)  # (EPOCH · T + 1, B)
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
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=1.0)
    before = trainer.export().weights
    (facts,) = take(trainer, 1)
    after = trainer.export().weights
    moved = math.sqrt(sum(float(np.square(after[name].astype(np.float64) - before[name]).sum()) for name in before))
    expected = 0.25 * (facts.grad_norm * fraction if fraction is not None else 0.01)
    assert facts.grad_norm > 0.02
    assert moved == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("cell", ["lstm", "peephole"])
def test_trainer_weight_decay_acts_on_matrices_only(cell: str) -> None:
    model = CharLM(V, ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
            parameter.grad = torch.zeros_like(parameter)
    settings = TrainingSettings(optimizer="adamw", learning_rate=0.1, weight_decay=0.5)
    build_optimizer(model, settings).step()
    for name, parameter in model.named_parameters():
        kept = 1 - 0.1 * 0.5 if "bias" not in name and name != "core.weight_ch_l0" else 1.0
        if "weight_ch" not in name:
            assert torch.allclose(parameter, torch.full_like(parameter, 2.0 * kept)), name


def test_trainer_adam_does_not_decay() -> None:
    model = CharLM(V, MODEL)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    build_optimizer(model, TrainingSettings(optimizer="adam", learning_rate=0.1, weight_decay=0.5)).step()
    assert all(map(torch.equal, model.parameters(), before))


# The learning rate


def rate(step: int, total: int | None, **settings: Any) -> float:
    return learning_rate_at(step, TrainingSettings(learning_rate=0.8, **settings), total)


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


def test_trainer_takes_the_rate_of_each_step() -> None:
    trainer = make(max_steps=9)
    for facts in trainer.steps():
        assert facts.learning_rate == learning_rate_at(facts.step - 1, trainer.settings, 9)
        assert {group["lr"] for group in trainer.optimizer.param_groups} == {facts.learning_rate}


# Batches of other data


class ShortDocuments:
    """Batches that mask some characters and have only some lanes begin afresh."""

    batch_size, steps_per_epoch, chars_per_step = B, 5, B * T

    def batch(self, step: int) -> Batch:
        ids = text(B * (T + 1), seed=step).reshape(T + 1, B).astype(np.int64)
        mask = np.arange(T)[:, None] < np.array([T, 2, 4])
        return Batch(ids[:-1], ids[1:], mask, np.array([step % 2 == 0, step == 0, False]))


def test_trainer_counts_what_the_mask_lets_count_and_resets_the_lanes_that_begin_afresh() -> None:
    trainer = make(dropout=0.0, learning_rate=1e-30, weight_decay=0.0, max_steps=4, val=0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.normal_(std=0.8, generator=torch.Generator().manual_seed(8))
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


# The limits


@pytest.mark.parametrize(
    ("limits", "steps", "reason"),
    [
        ({"max_steps": 5}, 5, "training.max_steps"),
        ({"max_steps": None, "max_epochs": 2}, 2 * EPOCH, "training.max_epochs"),
        ({"max_steps": 23, "max_epochs": 1}, EPOCH, "training.max_epochs"),
        ({"max_steps": 21, "max_epochs": 1}, 21, "training.max_steps"),
    ],
)
def test_trainer_stops_at_the_first_of_steps_and_epochs(limits: dict[str, Any], steps: int, reason: str) -> None:
    facts = list(make(**limits).steps())
    assert [fact.step for fact in facts] == list(range(1, steps + 1))
    assert {fact.total_steps for fact in facts} == {steps}
    assert [fact.stopped_by for fact in facts] == [None] * (steps - 1) + [reason]
    assert facts[-1].learning_rate < 0.02 * 0.05 or steps < 6  # the cosine was laid out to this end


def test_trainer_limit_beyond_every_run_can_be_saved() -> None:
    trainer = make(max_steps=2**63 - 1)
    take(trainer, 1)
    assert decode_progress(msgspec.json.encode(trainer.export().progress)) == trainer.progress


def test_trainer_stops_when_the_minutes_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, seconds_per_look=0.5)  # a step looks twice
    facts = list(make(max_steps=1000, max_minutes=0.1, val=0).steps())
    assert len(facts) == 12
    assert (facts[-1].stopped_by, facts[-1].seconds) == ("training.max_minutes", 6.0)


def test_trainer_estimates_the_steps_of_its_minutes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, seconds_per_look=0.5)
    trainer = make(max_steps=None, max_minutes=1.0, val=0)
    steps = trainer.steps()
    facts = [next(steps) for _ in range(10)]
    assert [fact.total_steps for fact in facts] == [None] * 9 + [120]
    middle = trainer.export()
    clock.seconds_per_look = 3.5  # from now on the clock no longer matters
    facts += list(steps)
    assert len(facts) == 120
    assert facts[-1].stopped_by == "training.max_minutes"
    for fact in facts:
        known = 120 if fact.step > 10 else None
        assert fact.learning_rate == learning_rate_at(fact.step - 1, trainer.settings, known)
    resumed = make(max_steps=None, max_minutes=1.0, val=0, model_seed=9)
    resumed.restore(middle)
    assert shown(list(resumed.steps())) == shown(facts[10:])


@pytest.mark.parametrize("every", [1, 4, 10, 1000])
def test_trainer_estimate_leaves_time_for_validations(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a validation costs what its characters cost going forward, training ends when its minutes do."""
    clock = Clock(monkeypatch)
    seconds_per_char = 0.25 / (B * T)

    class Timed(CharLM):
        def forward(self, *args: Any, **rest: Any) -> Any:
            clock.now += 0.25
            return super().forward(*args, **rest)

    def validate(_model: CharLM, _objective: Any, ids: np.ndarray, **_rest: Any) -> Any:
        clock.now += len(ids) * seconds_per_char * FORWARD_FRACTION
        return SimpleNamespace(tally=Tally(1.0, 1, 1))

    trainer = make(max_steps=None, max_minutes=1.0, val=313, validate_every_steps=every)
    trainer.model = Timed(V, MODEL)
    trainer.optimizer = build_optimizer(trainer.model, trainer.settings)
    monkeypatch.setattr(trainer_module, "evaluate", validate)
    facts = list(trainer.steps())
    assert facts[-1].seconds == pytest.approx(60.0, rel=0.05)
    assert facts[-1].validation is not None


def test_trainer_that_has_reached_its_limit_takes_no_step() -> None:
    done = make(max_steps=4)
    list(done.steps())
    assert list(done.steps()) == []


# Validation


def scripted(validation_losses: list[float]) -> Callable[..., Any]:
    """An evaluation that finds these losses, one after the other."""
    script = iter(validation_losses)
    return lambda *_args, **_rest: SimpleNamespace(tally=Tally(nats=next(script), hits=0, chars=1))


def test_trainer_keeps_count_of_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "evaluate", scripted([3.0, 2.0, 2.0, 1.5, 1.7]))
    trainer = make(max_steps=10, validate_every_steps=2)
    validated = [fact for fact in trainer.steps() if fact.validation is not None]
    assert [fact.step for fact in validated] == [2, 4, 6, 8, 10]
    assert [fact.is_best for fact in validated] == [True, True, False, True, False]
    assert (trainer.progress.best_loss, trainer.progress.best_step) == (1.5, 8)
    assert trainer.progress.validations_since_best == 1


def test_trainer_patience_stops_after_so_many_validations_without_a_new_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "evaluate", scripted([3.0, 3.5, 2.0, 2.5, 2.0, 1.0]))
    facts = list(make(max_steps=100, validate_every_steps=3, patience=2).steps())
    assert len(facts) == 15
    assert facts[-1].stopped_by == "training.patience"


def test_trainer_validates_at_the_interval_and_at_the_end_on_the_whole_part() -> None:
    facts = list(make(max_steps=10, validate_every_steps=4).steps())
    assert [fact.step for fact in facts if fact.validation is not None] == [4, 8, 10]
    assert {fact.validation.chars for fact in facts if fact.validation is not None} == {157}
    for too_short in (0, 1):
        assert all(fact.validation is None for fact in make(val=too_short).steps())


# Divergence


def poison_loss(trainer: Trainer) -> None:
    with torch.no_grad():
        trainer.model.output.bias[2] = math.nan


def poison_gradient(trainer: Trainer) -> None:
    trainer.model.embedding.weight.register_hook(lambda gradient: gradient + math.inf)


@pytest.mark.parametrize("poison", [poison_loss, poison_gradient])
@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_trainer_refuses_to_diverge_before_the_weights_change(
    poison: Callable[[Trainer], None], step: int, clip_norm: float | None
) -> None:
    trainer = make(clip_norm=clip_norm)
    take(trainer, step)
    poison(trainer)
    before = trainer.export()
    with pytest.raises(DivergedError, match=rf"^step {step + 1} .*training\.learning_rate.*") as caught:
        take(trainer, 1)
    assert "\n" not in str(caught.value)
    assert bits(trainer.export()) == bits(before)


# Silence


def test_trainer_prints_nothing_and_opens_no_file(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(make().steps())  # what torch loads at first use

    def refuse(path: Any, *_args: Any, **_rest: Any) -> Iterator[Any]:
        raise AssertionError(f"opened {path}")

    trainer = make()
    with monkeypatch.context() as patch:
        for module in (builtins, io, os):
            patch.setattr(module, "open", refuse)
        list(trainer.steps())
        trainer.restore(trainer.export())
    assert capfd.readouterr() == ("", "")


def test_trainer_facts_are_values() -> None:
    (facts,) = take(make(), 1)
    assert replace(facts, loss=1.0).loss == 1.0
    with pytest.raises(AttributeError):
        facts.loss = 2.0  # type: ignore[misc]
