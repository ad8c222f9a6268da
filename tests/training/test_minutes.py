"""A minute is a minute whatever the machine does meanwhile, and the learning rate is at its end when the time is."""

import random
from collections.abc import Callable, Iterator
from itertools import pairwise

import msgspec
import pytest

from charlstm.runs import Progress
from charlstm.runs.progress import decode_progress
from charlstm.settings import TrainingSettings
from charlstm.training.schedule import (
    begin_plan,
    count_pause,
    count_step,
    count_validation,
    counted_pause,
    decay_fraction,
    learning_rate_at,
    plan_steps,
    stopped_by,
    total_steps_of,
)

EPOCH = 700
SIZES = {"chars_per_step": 100, "validation_chars": 3000}  # so a validation is expected to take what 10 steps do


def settings_of(**settings: float | str | None) -> TrainingSettings:
    every = {"max_minutes": 1.0, "warmup_steps": 10, "validate_every_steps": 100}
    return TrainingSettings(**{**every, **settings})  # type: ignore[arg-type]


class Machine:
    """A machine on which step number n takes `seconds(n, now)`, a validation what ten steps do, a pause a tenth."""

    def __init__(
        self, seconds: Callable[[int, float], float], stalls: dict[int, float] | None = None, pause: float = 0.1
    ) -> None:
        self.seconds, self.stalls, self.pause, self.now = seconds, stalls or {}, pause, 0.0

    def take(self, step: int, times: int = 1, share: float = 1.0) -> float:
        seconds = share * sum(self.seconds(step, self.now) for _ in range(times))
        self.now += seconds
        return seconds


def run(
    machine: Machine, settings: TrainingSettings, progress: Progress | None = None, *, resumed: bool = False
) -> Iterator[tuple[float, Progress]]:
    """The learning rate of every step, and the progress after it, in the order in which the trainer asks for them."""
    limit = total_steps_of(settings, EPOCH)
    progress = begin_plan(progress or Progress(), settings, limit)
    pause = 0.0
    while stopped_by(settings, progress) is None:
        progress = plan_steps(count_pause(progress, counted_pause(progress, pause, worked=0.0)), settings, **SIZES)
        rate = learning_rate_at(progress.step, 1.0, settings, progress.total_steps, progress.plan)
        stall = machine.stalls.get(progress.step, 0.0)
        progress = count_step(progress, machine.take(progress.step) + stall)
        if stopped_by(settings, progress) or progress.step % settings.validate_every_steps == 0:
            progress = count_validation(progress, machine.take(progress.step, 10), **SIZES)
        if resumed:  # after every step
            progress = begin_plan(decode_progress(msgspec.json.encode(progress), where="it"), settings, limit)
        yield rate, progress
        pause = machine.take(progress.step, share=machine.pause)


def noisy(seconds: float) -> Callable[[int, float], float]:
    """Steps of which one in ten takes eight times as long, as beside other processes."""
    draw = random.Random(1)
    return lambda _step, _now: seconds * (8.0 if draw.random() < 0.1 else 0.5 + draw.random())


MACHINES: dict[str, Callable[[int, float], float]] = {
    "even": lambda _step, _now: 0.03,
    "slow at first": lambda step, _now: 2.0 if step == 0 else 0.3 if step < 5 else 0.03,
    "slower from the middle on": lambda _step, now: 0.03 if now < 30 else 0.06,
    "faster from the middle on": lambda _step, now: 0.06 if now < 30 else 0.02,
    "slower and slower": lambda _step, now: 0.01 + now / 600,
    "slowed down twentyfold": lambda _step, now: 0.02 if now < 15 else 0.4,
    "tiny steps": lambda _step, _now: 0.002,
    "tiny and noisy": noisy(0.002),
    "noisy": noisy(0.04),
}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_minutes_last_as_long_as_they_say(name: str, schedule: str) -> None:
    machine, settings = Machine(MACHINES[name]), settings_of(schedule=schedule)
    *_, (_, progress) = run(machine, settings)
    assert machine.now == pytest.approx(60.0, rel=0.025)
    assert progress.seconds == pytest.approx(machine.now, rel=0.01)
    assert stopped_by(settings, progress) == "training.max_minutes"


@pytest.mark.parametrize("name", MACHINES)
def test_minutes_take_the_learning_rate_to_its_end_without_a_jump(name: str) -> None:
    rates = [rate for rate, _ in run(Machine(MACHINES[name]), settings_of())]
    assert max(rates) == 1.0
    assert rates[-1] < 0.002
    after = rates[10:]
    assert all(later <= earlier for earlier, later in pairwise(after))
    most = {"slowed down twentyfold": 0.06, "slow at first": 0.02}.get(name, 0.011 if len(rates) < 2500 else 0.005)
    assert max(earlier - later for earlier, later in pairwise(after)) < most


@pytest.mark.parametrize("at", [0, 1, 2, 4, 7, 60, 900, 1400])
@pytest.mark.parametrize("seconds", [10.0, 20.0, 300.0])
def test_minutes_do_not_count_the_time_for_which_the_process_is_stopped(at: int, seconds: float) -> None:
    whole = list(run(Machine(MACHINES["even"]), settings_of()))
    stopped = list(run(Machine(MACHINES["even"], {at: seconds}), settings_of()))
    if at == 0 and seconds > 60:
        assert len(stopped) == 1  # nothing shows that the first step was not as slow
        return
    lost = seconds if at == 0 else 0.0
    assert stopped[-1][1].seconds == pytest.approx(60.0, rel=0.025)
    assert len(stopped) == pytest.approx(len(whole) * (60 - lost) / 60, rel=0.03)
    assert stopped[-1][0] < 0.001


def test_minutes_do_not_count_stops_while_validating_or_saving() -> None:
    progress = begin_plan(Progress(), settings_of(), None)
    for _ in range(20):
        progress = count_step(progress, 0.03)
    assert count_validation(progress, 30.0, **SIZES).seconds == pytest.approx(progress.seconds + 0.3)
    assert count_validation(progress, 1.2, **SIZES).seconds == pytest.approx(progress.seconds + 1.2)
    assert counted_pause(progress, 30.0, worked=0.1) == 0.1
    assert counted_pause(progress, 1.5, worked=0.1) == 1.5


def test_minutes_count_all_that_a_processor_worked_between_two_steps() -> None:
    progress = count_step(begin_plan(Progress(), settings_of(), None), 0.03)
    pause = counted_pause(progress, 30.0, worked=29.0)
    assert count_pause(progress, pause).seconds == pytest.approx(progress.seconds + 29.0)
    assert counted_pause(progress, 30.0, worked=31.0) == 30.0  # two threads may work for more than the clock says


def test_minutes_count_a_machine_that_has_become_much_slower() -> None:
    machine = Machine(lambda _step, now: 0.1 if now < 20 else 2.5)
    *_, (rate, _) = run(machine, settings_of(validate_every_steps=1000))
    assert machine.now < 60 + 5 * 2.5 + 3  # the first five slow steps look like stops
    assert rate < 0.1


@pytest.mark.parametrize("limits", [{}, {"max_steps": 500}, {"max_epochs": 9}], ids=["minutes", "steps", "epochs"])
def test_minutes_are_planned_the_same_if_the_run_is_resumed_after_every_step(limits: dict[str, int]) -> None:
    draw = [random.Random(seed).uniform(0.02, 0.06) for seed in range(3000)]
    machines = [Machine(lambda step, _now: draw[step], pause=0.0) for _ in range(2)]
    settings = settings_of(**limits)
    whole, resumed = (
        list(run(machine, settings, resumed=again)) for machine, again in zip(machines, (False, True), strict=True)
    )
    assert whole == resumed


def test_minutes_beside_a_limit_of_steps_end_with_whichever_comes_first() -> None:
    by_steps, by_both = (settings_of(max_steps=800, max_minutes=minutes) for minutes in (None, 1.0))
    expected = [rate for rate, _ in run(Machine(MACHINES["even"]), by_steps)]
    *both, (rate, progress) = run(Machine(MACHINES["even"]), by_both)
    assert [*(rate for rate, _ in both), rate] == expected  # bit for bit: the clock changed nothing
    assert stopped_by(by_both, progress) == "training.max_steps"
    machine = Machine(MACHINES["even"])
    *_, (rate, progress) = run(machine, settings_of(max_epochs=10))
    assert stopped_by(settings_of(max_epochs=10), progress) == "training.max_minutes"
    assert machine.now == pytest.approx(60.0, rel=0.025)
    assert rate < 0.001


@pytest.mark.parametrize("minutes", [2.0, 0.75])
def test_minutes_that_are_changed_in_the_middle_make_a_new_plan(minutes: float) -> None:
    machine = Machine(MACHINES["even"])
    half = next(progress for _, progress in run(machine, settings_of()) if progress.seconds > 30)
    assert half.total_steps == pytest.approx(1650, rel=0.1)
    other = settings_of(max_minutes=minutes)
    (rate, progress), *_, (last, end) = run(machine, other, half)
    assert progress.total_steps == pytest.approx(1650 * minutes, rel=0.1)
    assert rate == learning_rate_at(half.step, 1.0, other, progress.total_steps)  # as if it had been the plan all along
    assert last < 0.001
    assert end.seconds == pytest.approx(60 * minutes, rel=0.025)
    assert list(run(machine, other, end)) == []


def test_minutes_that_are_over_before_a_second_step_end_the_run() -> None:
    for seconds, steps in ((40.0, 2), (70.0, 1), (1e6, 1)):
        machine = Machine(lambda _step, _now, seconds=seconds: seconds)  # type: ignore[misc]
        assert len(list(run(machine, settings_of(validate_every_steps=1000)))) == steps


def test_decay_of_a_plan_goes_on_where_the_plan_before_was() -> None:
    progress = begin_plan(Progress(), settings_of(), None)
    settings = settings_of()
    for _ in range(50):
        progress = count_step(plan_steps(progress, settings, **SIZES), 0.03)
    for seconds in (0.2, 0.2, 0.01, 1.0, 1.0):
        before = decay_fraction(progress.step, settings, progress.total_steps, progress.plan)
        progress = plan_steps(progress, settings, **SIZES)
        assert decay_fraction(progress.step, settings, progress.total_steps, progress.plan) == before
        progress = count_step(progress, seconds)
    assert progress.plan.step > 50


def test_plans_of_endless_minutes_and_no_time_at_all_are_numbers() -> None:
    for minutes, seconds in [(1e308, 0.0), (1e308, 1e-300), (1e-300, 0.0), (1.0, 0.0)]:
        progress = begin_plan(Progress(), settings_of(max_minutes=minutes), None)
        for _ in range(7):
            progress = count_step(plan_steps(progress, settings_of(max_minutes=minutes), **SIZES), seconds)
        assert decode_progress(msgspec.json.encode(progress), where="it") == progress
