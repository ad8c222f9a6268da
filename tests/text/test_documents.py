"""Batches of documents: each once an epoch and from its beginning, by definition, in few empty places; the same again.

Letters: `B` lanes, `T` steps, `S` the longest window.
"""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import TextError
from charlstm.text import Batch, DocumentBatches, documents
from charlstm.text.documents import PADDING, find_bounds

END = 9
LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=40).filter(any)


def text_of(lengths: list[int], seed: int = 1) -> np.ndarray:
    """Documents of random ids below END, each with its end."""
    rng = np.random.default_rng(seed)
    return np.concatenate([np.append(rng.integers(END, size=length), END) for length in lengths]).astype(np.uint8)


def make(lengths: list[int], **changes: Any) -> DocumentBatches:
    how = {"start_id": END, "end_id": END, "batch_size": 3, "sequence_length": 8, "seed": 1}
    return DocumentBatches(text_of(lengths), **{**how, **changes})


def epoch_of(batches: DocumentBatches, number: int = 0) -> list[Batch]:
    per_epoch = batches.steps_per_epoch
    return [batches.batch(step) for step in range(number * per_epoch, (number + 1) * per_epoch)]


def read_documents(batches: list[Batch], *, around: bool = False) -> list[list[tuple[int, int]]]:
    """What each lane reads from one beginning to the next: pairs of what is read and what follows, if it counts."""
    found: list[list[tuple[int, int]]] = []
    lanes: list[list[tuple[int, int]]] = []
    for batch in batches:
        assert batch.fresh.all() or not batch.fresh.any()
        if batch.fresh.all():
            found += lanes
            lanes = [[] for _ in batch.fresh]
        for lane, read in enumerate(lanes):
            mask = batch.inputs[:, lane] != PADDING if around else batch.mask[:, lane]
            read += zip(batch.inputs[mask, lane].tolist(), batch.following[mask, lane].tolist(), strict=True)
    return found + lanes


@given(LENGTHS, st.integers(1, 5), st.integers(1, 30), st.integers(0, 2))
def test_documents_are_each_read_once_an_epoch_from_their_beginning_to_their_end(
    lengths: list[int], b: int, s: int, epoch: int
) -> None:
    batches = make(lengths, batch_size=b, sequence_length=s)
    read = read_documents(epoch_of(batches, epoch))
    expected = [part.tolist() for part in np.split(batches.ids, find_bounds(batches.ids, END)[1:-1].tolist())]
    expected = [part for part in expected if len(part) > 1]
    assert sorted([after for _, after in document] for document in read) == sorted(expected)
    assert all([one for one, _ in document] == [END, *(after for _, after in document[:-1])] for document in read)
    assert batches.documents == len(expected)
    assert batches.chars == sum(map(len, expected)) == sum(int(one.mask.sum()) for one in epoch_of(batches, epoch))


@given(LENGTHS, st.integers(1, 5), st.integers(1, 30))
def test_documents_are_read_whole_by_a_reader_of_both_sides_who_predicts_no_end(
    lengths: list[int], b: int, s: int
) -> None:
    batches = make(lengths, batch_size=b, sequence_length=s, around=True)
    epoch = epoch_of(batches)
    read = [[one for one, _ in document] for document in read_documents(epoch, around=True)]
    expected = [part.tolist() for part in np.split(batches.ids, find_bounds(batches.ids, END)[1:-1].tolist())]
    assert sorted(read) == sorted([END, *part] for part in expected if len(part) > 1)
    for batch in epoch:
        assert np.array_equal(batch.mask, (batch.inputs != END) & (batch.inputs != PADDING))
    assert batches.chars == sum(int(one.mask.sum()) for one in epoch)


@given(LENGTHS, st.integers(1, 5), st.integers(1, 30))
def test_documents_batches_are_no_larger_than_asked_and_go_on_where_they_stopped(
    lengths: list[int], b: int, s: int
) -> None:
    lanes = 0
    for batch in epoch_of(make(lengths, batch_size=b, sequence_length=s)):
        assert batch.inputs.shape[0] <= s
        assert batch.inputs.size <= max(b * s, s)
        assert batch.fresh[0] or len(batch.fresh) == lanes
        lanes = len(batch.fresh)


def test_documents_come_in_another_order_for_every_seed_and_epoch_and_in_no_other() -> None:
    lengths = [1 + number % 13 for number in range(300)]

    def order(seed: int, epoch: int) -> str:
        return str([batch.inputs.tolist() for batch in epoch_of(make(lengths, seed=seed), epoch)])

    assert order(1, 0) == order(1, 0)
    assert len({order(*place) for place in ((1, 0), (2, 0), (1, 1), (1, 2))}) == 4
    batches = make(lengths)
    steps = np.random.default_rng(1).permutation(3 * batches.steps_per_epoch)[:50]
    for step in steps.tolist():  # whatever was read before
        assert all(np.array_equal(*parts) for parts in zip(batches.batch(step), make(lengths).batch(step), strict=True))


def test_documents_of_one_length_are_spread_over_the_epoch() -> None:
    windows = [batch.inputs.shape[0] for batch in epoch_of(make([3] * 400 + [6] * 400, sequence_length=7))]
    half = len(windows) // 2
    assert abs(windows[:half].count(4) - windows[half:].count(4)) <= 1


@pytest.mark.parametrize(
    ("name", "most"), [("names", 0.01), ("log", 0.06), ("mixed", 0.08), ("one", 0.01), ("notes", 0.06)]
)
def test_documents_leave_few_places_empty(name: str, most: float) -> None:
    rng = np.random.default_rng(1)
    lengths = {
        "names": 2 + rng.poisson(5, 30_000),
        "log": rng.integers(40, 140, 10_000),
        "mixed": 1 + np.exp(rng.normal(4, 1, 20_000)).astype(int),
        "one": np.array([100_000]),
        "notes": rng.integers(10, 280, 50_000),
    }[name]
    batches = make(lengths.tolist(), batch_size=64, sequence_length=128)
    places = sum(batch.inputs.size for batch in epoch_of(batches))
    assert batches.padding == pytest.approx(1 - batches.chars / places)
    assert batches.padding < most
    assert batches.chars_per_step == round(batches.chars / batches.steps_per_epoch)


def test_documents_need_one_that_is_not_empty() -> None:
    for lengths in ([0], [0, 0]):
        with pytest.raises(TextError, match="holds no document"):
            _ = make(lengths).steps_per_epoch
    with pytest.raises(TextError, match="holds no document"):
        _ = DocumentBatches(np.array([1, 2], np.uint8), END, END, 2, 3, None).steps_per_epoch  # which has no end


def test_documents_bounds_are_found_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = text_of([3, 0, 5, 1, 40])
    whole = find_bounds(ids, END)
    assert whole.tolist() == [0, 4, 5, 11, 13, 54]
    for size in (1, 2, 7):
        monkeypatch.setattr(documents, "SCANNED_AT_ONCE", size)
        assert np.array_equal(find_bounds(ids, END), whole)


def test_documents_take_a_dozen_bytes_each() -> None:
    count = 1_000_000
    lengths = np.random.default_rng(1).integers(1, 12, count)
    ids = np.zeros(lengths.sum() + count, np.uint8)
    ids[(lengths + 1).cumsum() - 1] = END
    tracemalloc.start()
    try:
        batches = DocumentBatches(ids, END, END, 64, 128, 1)
        for step in (0, batches.steps_per_epoch - 1, batches.steps_per_epoch):
            batches.batch(step)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now < 9 * count
    assert peak < 24 * count
