"""Batches: lanes and segments predict every character once an epoch; parts are read from end to end.

Letters: `B` lanes, `T` steps, `N` characters of the text. A text of 0, 1, 2, … makes an id its own position.
"""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import TextError
from charlstm.text import Lanes, Parts

SIZES = st.tuples(st.integers(1, 7), st.integers(1, 9)).flatmap(
    lambda bt: st.tuples(st.integers(bt[0] * bt[1] + 1, 10 * bt[0] * bt[1] + 12), st.just(bt[0]), st.just(bt[1]))
)  # N, B, T of every text that is long enough


def positions(n: int, dtype: Any = np.uint16) -> np.ndarray:
    return np.arange(n).astype(dtype)


def epoch_of(lanes: Lanes) -> list[tuple[np.ndarray, np.ndarray]]:
    return [lanes.batch(step)[:2] for step in range(lanes.steps_per_epoch)]


@given(SIZES)
def test_lanes_predict_every_used_character_once_an_epoch(sizes: tuple[int, int, int]) -> None:
    n, b, t = sizes
    windows = epoch_of(Lanes(positions(n), b, t))
    assert all(part.shape == (t, b) for window in windows for part in window)
    assert all(np.array_equal(targets, inputs + 1) for inputs, targets in windows)
    targets = np.concatenate([targets for _, targets in windows])  # (steps · T, B)
    assert len(np.unique(targets)) == targets.size
    assert targets.min() >= 1  # the first character of a text has nothing before it
    assert targets.max() < n
    assert n - 1 - targets.size < b * t  # what is left out would not fill one more step


@given(SIZES)
def test_lanes_are_contiguous_parts_and_each_window_continues_the_one_before(sizes: tuple[int, int, int]) -> None:
    n, b, t = sizes
    read = np.concatenate([inputs for inputs, _ in epoch_of(Lanes(positions(n), b, t))])  # (steps · T, B)
    assert np.array_equal(read - read[0], np.arange(len(read))[:, None] + np.zeros(b))
    lane_chars = (n - 1) // b
    assert np.array_equal(read[0], np.arange(b) * lane_chars)  # each begins where the one before it ends


@given(SIZES, st.integers(0, 3))
def test_lanes_epochs_repeat_and_begin_where_they_say(sizes: tuple[int, int, int], epoch: int) -> None:
    lanes = Lanes(positions(sizes[0]), *sizes[1:])
    per_epoch = lanes.steps_per_epoch
    for step in range(per_epoch):
        again = lanes.batch(step + epoch * per_epoch)
        assert all(np.array_equal(*parts) for parts in zip(again, lanes.batch(step), strict=True))
        assert again.fresh.tolist() == [step == 0] * lanes.batch_size
        assert again.mask.all()
        assert again.mask.size == lanes.chars_per_step


# Segments

STEPS = st.integers(1, 5)  # K, of a segment


def segments_of(sizes: tuple[int, int, int], steps: int, seed: int = 1) -> tuple[Lanes, int]:
    """The segments of a text of positions, and how many steps one is long in it."""
    n, b, t = sizes
    return Lanes(positions(n), b, t, steps, seed), min(steps, (n - 1) // (b * t))


@given(SIZES, STEPS, st.integers(0, 9))
def test_segments_are_read_from_end_to_end_in_one_lane_and_begin_afresh(
    sizes: tuple[int, int, int], steps: int, number: int
) -> None:
    segments, steps = segments_of(sizes, steps)
    batches = [segments.batch(number * steps + step) for step in range(steps)]
    read = np.concatenate([batch.inputs for batch in batches])  # (K · T, B)
    following = np.concatenate([batch.following for batch in batches])
    assert np.array_equal(read, read[0] + np.arange(len(read))[:, None])
    assert np.array_equal(following, read + 1)
    assert [batch.fresh.tolist() for batch in batches] == [[step == 0] * sizes[1] for step in range(steps)]
    assert all(batch.mask.all() and batch.mask.shape == sizes[:0:-1] for batch in batches)


@given(SIZES, STEPS)
def test_segments_are_read_once_an_epoch_and_no_epoch_is_cut_short(sizes: tuple[int, int, int], steps: int) -> None:
    segments, steps = segments_of(sizes, steps)
    n, b, t = sizes
    count, unused = divmod(n - 1, steps * t)
    numbers = -(-3 * count // b)  # of batches until three epochs are over
    first = np.concatenate([segments.batch(number * steps).inputs[0] for number in range(numbers)])
    for epoch in range(3):
        places = np.sort(first[epoch * count : (epoch + 1) * count])
        assert np.array_equal(np.diff(places), [steps * t] * (count - 1))
        assert 0 <= places[0] <= unused


def test_segments_come_in_another_order_for_every_seed_and_epoch_and_in_no_other() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        segments = Lanes(positions(4 * 60 + 1), 3, 2, 2, seed)  # 60 segments, 20 batches an epoch
        assert segments.steps_per_epoch == 40
        steps = range(epoch * 40, epoch * 40 + 40, 2)
        return [int(place) for step in steps for place in segments.batch(step).inputs[0]]

    assert order(1, 0) == order(1, 0)
    assert len({str(order(*place)) for place in ((1, 0), (2, 0), (1, 1))}) == 3
    assert order(1, 0) != sorted(order(1, 0))


@pytest.mark.parametrize("batches", [Lanes, lambda *sizes: Lanes(*sizes, 3, 1)])
@given(b=st.integers(1, 12), t=st.integers(1, 12))
def test_batches_say_how_much_text_is_needed_and_that_much_is_enough(batches: Any, b: int, t: int) -> None:
    needed = b * t + 1
    for n in {0, 1, needed // 2, needed - 1} - {needed}:
        with pytest.raises(TextError, match=rf"has {n} characters.* need at least {needed}:") as caught:
            batches(positions(n), b, t)
        assert f"{b} lanes" in str(caught.value)
    assert batches(positions(needed), b, t).steps_per_epoch == 1
    assert sorted(batches(positions(needed), b, t).batch(0).inputs.ravel()) == list(range(b * t))


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4"])
@pytest.mark.parametrize("every", [1, 3])
def test_lanes_read_any_array_of_ids_as_int64(dtype: str, every: int) -> None:
    wide = positions(250, dtype)
    ids = wide[::every]
    for step, (inputs, targets) in enumerate(epoch_of(Lanes(ids, 3, 5))):
        lane = (len(ids) - 1) // 3
        expected = np.array([[ids[b * lane + step * 5 + t] for b in range(3)] for t in range(5)])
        assert np.array_equal(inputs, expected)
        assert inputs.dtype == targets.dtype == np.int64


@pytest.mark.parametrize("batches", [Lanes, lambda *sizes: Lanes(*sizes, 3, 1)])
def test_windows_are_their_own_and_leave_the_text_alone(batches: Any) -> None:
    ids = positions(41)
    inputs, targets = batches(ids, 2, 5).batch(1)[:2]
    inputs[:], targets[:] = 77, 88
    assert np.array_equal(ids, positions(41))


def test_batches_never_copy_a_memory_mapped_text(tmp_path: Path) -> None:
    path = tmp_path / "text.ids"
    n = 1 << 27  # 256 MiB of uint16, a hole in the file system
    with path.open("wb") as file:
        file.truncate(2 * n)
    ids = np.memmap(path, dtype="<u2", mode="r")
    tracemalloc.start()
    try:
        for batches in (Lanes(ids, 3, 17), Lanes(ids, 3, 17, 1 << 14, 1)):
            for step in (0, 1, batches.steps_per_epoch - 1):
                batches.batch(step)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000


# Parts


def test_parts_are_read_from_their_first_characters_and_count_what_is_asked() -> None:
    ids = positions(50, "u1")
    counted = (np.array([3, 20, 45]), np.array([9, 99, 49]))
    parts = Parts(ids, np.array([-2, 18, 44]), 11, counted=counted, fresh=True)
    batches = list(parts.batches(4))
    assert [batch.inputs.shape for batch in batches] == [(4, 3), (4, 3), (3, 3)]
    assert [batch.fresh.tolist() for batch in batches] == [[True] * 3, [False] * 3, [False] * 3]
    inputs, following, mask = (np.concatenate([batch[n] for batch in batches]).T for n in range(3))
    assert inputs.tolist() == [[0, 0, *range(9)], [*range(18, 29)], [*range(44, 50), *[49] * 5]]
    assert np.array_equal(following, (np.array([[-1], [19], [45]]) + np.arange(11)).clip(0, 49))
    assert [inputs[lane][mask[lane]].tolist() for lane in range(3)] == [
        [*range(3, 9)],
        [*range(20, 29)],
        [*range(45, 49)],
    ]
    assert {part.dtype for batch in batches for part in batch[:2]} == {np.dtype(np.int64)}


def test_parts_that_do_not_begin_afresh_never_say_so() -> None:
    parts = Parts(positions(9), np.array([1, 5]), 3, counted=(np.array([1, 5]), np.array([4, 8])))
    assert not any(batch.fresh.any() for batch in parts.batches(2))
