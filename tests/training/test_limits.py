"""When training ends: steps, epochs, minutes and patience; what validation finds; divergence."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from charlstm.errors import DivergedError
from charlstm.evaluation import Tally
from charlstm.runs.progress import decode_progress
from charlstm.training import Trainer
from charlstm.training import trainer as trainer_module
from charlstm.training.schedule import learning_rate_at

from ..small_runs import bits
from .trainers import EPOCH, Clock, make, shown, take


@pytest.mark.parametrize(
    ("limits", "steps", "reason"),
    [
        ({"max_steps": 5}, 5, "training.max_steps"),
        ({"max_steps": None, "max_epochs": 2}, 2 * EPOCH, "training.max_epochs"),
        ({"max_steps": EPOCH + 1, "max_epochs": 1}, EPOCH, "training.max_epochs"),
        ({"max_steps": EPOCH - 1, "max_epochs": 1}, EPOCH - 1, "training.max_steps"),
    ],
)
def test_trainer_stops_at_the_first_of_steps_and_epochs(limits: dict[str, Any], steps: int, reason: str) -> None:
    trainer = make(**limits)
    facts = list(trainer.steps())
    assert [fact.step for fact in facts] == list(range(1, steps + 1))
    assert {fact.total_steps for fact in facts} == {steps}
    assert [fact.stopped_by for fact in facts] == [None] * (steps - 1) + [reason]
    assert facts[-1].learning_rate == learning_rate_at(steps - 1, trainer.highest_rate, trainer.settings, steps)
    assert list(trainer.steps()) == []


def test_trainer_limit_beyond_every_run_can_be_saved() -> None:
    trainer = make(max_steps=2**63 - 1)
    take(trainer, 1)
    assert decode_progress(msgspec.json.encode(trainer.export().progress), where="it") == trainer.progress


def test_trainer_restored_with_a_higher_limit_goes_on_to_it() -> None:
    short = make(max_steps=6)
    assert [facts.step for facts in short.steps()] == list(range(1, 7))
    longer = make(max_steps=9)
    longer.restore(short.export())
    assert [facts.step for facts in longer.steps()] == [7, 8, 9]


def test_trainer_restored_without_its_limit_of_steps_is_not_held_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, step_seconds=0.5)
    limited = make(max_steps=6, max_minutes=1.0, val=0)
    assert len(list(limited.steps())) == 6
    freed = make(max_steps=None, max_minutes=1.0, val=0)
    freed.restore(limited.export())
    assert [facts.step for facts in freed.steps()] == list(range(7, 121))


def test_trainer_stops_when_the_minutes_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, step_seconds=0.5)
    facts = list(make(max_steps=1000, max_minutes=0.1, val=0).steps())
    assert len(facts) == 12
    assert (facts[-1].stopped_by, facts[-1].seconds) == ("training.max_minutes", 6.0)


def test_trainer_lays_its_minutes_out_anew_and_resumes_with_the_plan_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, step_seconds=0.5)
    trainer = make(max_steps=None, max_minutes=1.0, val=0)
    facts = take(trainer, 40)
    assert [fact.total_steps for fact in facts] == [None] * 5 + [120] * 35
    assert [fact.learning_rate for fact in facts[5:]] == [
        learning_rate_at(k, trainer.highest_rate, trainer.settings, 120) for k in range(5, 40)
    ]
    middle = trainer.export()
    clock.step_seconds = 1.0
    facts = list(trainer.steps())
    assert facts[0].learning_rate == learning_rate_at(40, trainer.highest_rate, trainer.settings, 120)
    assert facts[-1].step == 80  # 40 of half a second, 40 of one
    assert (facts[-1].stopped_by, facts[-1].seconds) == ("training.max_minutes", 60.0)
    assert facts[-1].learning_rate < 0.02 * 0.002
    resumed = make(max_steps=None, max_minutes=1.0, val=0, model_seed=9)
    resumed.restore(middle)
    assert shown(list(resumed.steps())) == shown(facts)
    assert resumed.export().progress == trainer.export().progress


def test_trainer_does_not_count_the_time_for_which_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, step_seconds=0.5)
    trainer = make(max_steps=None, max_minutes=1.0, val=0)
    take(trainer, 7)
    clock.step_seconds = 20.0
    (stopped,) = take(trainer, 1)
    assert stopped.step_seconds == 0.5
    clock.step_seconds = 0.5
    steps = trainer.steps()
    next(steps)
    clock.now += 30.0  # between two steps
    assert [fact.step for fact in steps][-1] == 120


def test_trainer_counts_long_work_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, step_seconds=0.5)
    steps = make(max_steps=None, max_minutes=1.0, val=0).steps()
    for _ in range(9):
        next(steps)
    clock.now += 30.0
    clock.worked += 29.0  # a long sample
    assert [fact.step for fact in steps][-1] == 120 - 2 * 29


def test_trainer_counts_no_negative_time_on_a_clock_that_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, step_seconds=-0.5)
    trainer = make(max_steps=6, validate_every_steps=2)
    for facts in trainer.steps():
        assert (facts.seconds, facts.step_seconds) == (0.0, 0.0)
        clock.now -= 1.0
    decode_progress(msgspec.json.encode(trainer.progress), where="here")  # which a negative time does not pass


@pytest.mark.parametrize("every", [1, 4, 10, 1000])
def test_trainer_plans_for_validations_and_for_what_lies_between_steps(
    every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, step_seconds=0.25)

    def validate(*_args: Any, **_rest: Any) -> Any:
        clock.now += 1.5
        return SimpleNamespace(tally=Tally(1.0, 1, 1))

    monkeypatch.setattr(trainer_module, "evaluate", validate)
    trainer = make(max_steps=None, max_minutes=1.0, val=313, validate_every_steps=every)
    for facts in trainer.steps():
        clock.now += 0.1 if facts.stopped_by is None else 0.0  # saving, sampling, logging
    assert facts.seconds == clock.now == pytest.approx(60.0, rel=0.025)
    assert facts.validation is not None
    assert facts.learning_rate < 0.02 * 0.01


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
