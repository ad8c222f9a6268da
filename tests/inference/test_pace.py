"""The number of threads while sampling: a clock that the test turns, and the bits, which it must not move."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from charlstm.inference import pace
from charlstm.inference.fast_lstm import build_stepper
from charlstm.settings import ModelSettings
from charlstm.weights import weight_shapes


def threads_over(seconds: float, cost: Callable[[float, int], float]) -> list[tuple[float, int]]:
    """The time and the threads of each step; `cost` gives a step's seconds from these two."""
    told: list[int] = []
    watched, clock, steps = pace.Pace(2, told.append), 0.0, []
    while clock < seconds:
        steps.append((clock, told[-1]))
        took = cost(clock, told[-1])
        clock += took
        watched.after_step(took)
    return steps


def share_of_several(steps: list[tuple[float, int]]) -> float:
    return sum(threads == 2 for _, threads in steps) / len(steps)


def test_pace_takes_two_threads_where_they_are_quicker() -> None:
    steps = threads_over(10.0, lambda _, threads: 0.001 / threads)
    assert share_of_several(steps) > 0.97


def test_pace_begins_with_one_thread() -> None:
    assert threads_over(0.002, lambda *_: 0.001) == [(0.0, 1), (0.001, 1)]


def test_pace_stays_with_one_thread_where_two_are_fifty_times_slower() -> None:
    steps = threads_over(60.0, lambda _, threads: 0.05 if threads == 2 else 0.001)
    assert 0.0 < share_of_several(steps) < 0.001
    lost = 0.05 * sum(threads == 2 for _, threads in steps)
    assert lost < 60.0 / 50  # of the time


def test_pace_goes_back_to_one_thread_as_soon_as_a_neighbour_comes_and_to_two_when_it_has_gone() -> None:
    def cost(clock: float, threads: int) -> float:
        busy = 5.0 <= clock < 10.0
        return 0.0005 if threads == 2 and not busy else 0.02 if threads == 2 else 0.001

    steps = threads_over(30.0, cost)
    assert share_of_several([step for step in steps if 5.2 <= step[0] < 10.0]) < 0.01
    assert share_of_several([step for step in steps if step[0] >= 20.0]) > 0.95


@pytest.mark.parametrize(
    ("allowed", "hidden_size", "streams", "several"),
    [(2, 256, 1, 2), (8, 512, 1, 4), (3, 512, 1, 2), (1, 512, 1, 1), (2, 128, 1, 1), (2, 128, 64, 2), (2, 333, 1, 1)],
)
def test_pace_tries_threads_where_they_can_gain_and_keep_the_bits(
    allowed: int, hidden_size: int, streams: int, several: int
) -> None:
    settings = ModelSettings(hidden_size=hidden_size)
    assert pace.several_threads(allowed, settings, streams=streams) == several


def test_pace_passes_on_every_step_and_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(pace, "_set_threads", lambda: told.append)
    assert list(pace.paced(iter(range(5)), 2)) == list(range(5))
    assert told == [1]
    monkeypatch.setattr(pace, "_set_threads", lambda: None)
    assert list(pace.paced(iter(range(5)), 2)) == list(range(5))


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], object]]:
    setter = pace._set_threads()
    if setter is None:
        pytest.skip("NumPy stands on another library than OpenBLAS")
    yield setter
    setter(1)


@pytest.mark.parametrize("hidden_size", [16, 80, 128, 272, 512])
@pytest.mark.parametrize("streams", [1, 2, 7, 64])
def test_pace_does_not_move_the_bits(hidden_size: int, streams: int, set_threads: Callable[[int], object]) -> None:
    settings = ModelSettings(hidden_size=hidden_size, embedding_size=5)
    rng = np.random.default_rng(5)
    shapes = weight_shapes(settings, 65)
    stepper = build_stepper({name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}, settings)
    found = []
    for threads in (1, 2, 4):
        set_threads(threads)
        state = stepper.zero_state(streams)
        for symbol in (3, 4):
            logits, state = stepper.step(np.full(streams, symbol), state)
        found.append(logits)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
