"""Batches of whole documents, each in a lane of its own.

Letters: `B` lanes, `T` steps, `N` ids of the text, `D` documents, `S` the longest window.

Ids of documents are those of one, its end symbol, those of the next, its end symbol, and so on. The end symbol of a
model of documents is the boundary; that of a model of one stream is the line end, so that lines can be measured by it.
"""

import functools
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import TextError
from charlstm.text.batches import Batch
from charlstm.text.stored_ids import refuse_changed
from charlstm.text.vocabulary import Ids

SCANNED_AT_ONCE = 1 << 20  # ids
EXACT, STEPS_AN_OCTAVE = 16, 8  # sizes up to the first are told apart, of larger ones so many between n and 2 n
LANES_A_STEP = 16  # more that a step costs than it has: each of its T steps has a cost of its own
PADDING = -1  # what a reader of both sides finds in an empty place


class _Bucket(NamedTuple):
    """Documents of about one length, each read in so many windows of T steps."""

    first: int  # of them in the order of documents
    documents: int
    batches: int
    windows: int
    length: int  # T

    def places(self, batch: int) -> slice:
        """Where the documents of a batch stand in the order."""
        return slice(*(self.first + number * self.documents // self.batches for number in (batch, batch + 1)))


class _Epoch(NamedTuple):
    """What an epoch reads, and when."""

    number: int
    order: NDArray[np.unsignedinteger]  # (D,) the documents, bucket by bucket
    batches: NDArray[np.int64]  # the numbers of the batches in the order in which they are read
    until: NDArray[np.int64]  # the step before which each of these is read


@dataclass(frozen=True)
class DocumentBatches:
    """Batches of whole documents: each is read once an epoch, in a lane of its own, from the zero state.

    Documents of about one length are read side by side, the shorter the more of them, so that a step has about
    batch_size · S places and few of them are empty. A document longer than S is read in several steps, its state
    carried. Which documents meet in a batch, and the order of the batches, are drawn for every epoch by (seed, epoch);
    the bucket of a document, and so the number of steps, is the same in all.

    ids: (N,), each document with the end symbol after it; empty documents are passed over. The start symbol is read
    before each. seed: None for no drawing. around: whether the reader looks at both sides of a character; it reads the
    end symbol too, which is then not predicted, and finds PADDING in empty places.
    Raises TextError if there are no documents.
    """

    ids: Ids
    start_id: int
    end_id: int
    batch_size: int
    sequence_length: int  # S
    seed: int | None
    around: bool = False
    _last: list[_Epoch] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every document is read once."""
        return sum(bucket.batches * bucket.windows for bucket in self._buckets)

    @property
    def chars_per_step(self) -> int:
        """Characters that a step trains on in the mean, ends among them."""
        return max(1, round(self.chars / self.steps_per_epoch))

    @property
    def chars(self) -> int:
        """Characters that are predicted in an epoch: all, and by a reader of one side the ends."""
        return self._plan.read - self.documents * 2 * self.around

    @property
    def documents(self) -> int:
        """D."""
        return len(self._plan.order)

    @property
    def padding(self) -> float:
        """The fraction of the places of an epoch's batches that are empty."""
        return 1 - self._plan.read / sum(bucket.documents * bucket.windows * bucket.length for bucket in self._buckets)

    def batch(self, step: int) -> Batch:
        """The batch of a step counted from 0."""
        number, within = divmod(step, self.steps_per_epoch)
        epoch = self._epoch(number)
        place = int(np.searchsorted(epoch.until, within, side="right"))
        batch = int(epoch.batches[place])
        for bucket in self._buckets:
            if batch < bucket.batches:
                break
            batch -= bucket.batches
        window = within - int(epoch.until[place]) + bucket.windows
        return self._read_window(epoch.order[bucket.places(batch)], window * bucket.length, bucket.length)

    def _read_window(self, documents: NDArray[np.unsignedinteger], offset: int, length: int) -> Batch:
        """T steps of documents (B,) from an offset in each, where 0 is the start symbol."""
        begins = self._bounds[documents].astype(np.int64)
        sizes = self._bounds[documents + 1] - begins + self.around
        at = offset + np.arange(length)[:, None]  # (T, 1)
        refuse_changed(self.ids)
        inputs, following = (
            self.ids[(begins + at + ahead).clip(0, len(self.ids) - 1)].astype(np.int64) for ahead in (-1, 0)
        )
        refuse_changed(self.ids)
        inputs[at[:, 0] == 0] = self.start_id
        mask = at < sizes
        inputs[~mask] = PADDING if self.around else self.end_id
        if self.around:
            mask &= (at > 0) & (at < sizes - 1)
        return Batch(inputs, following, mask, np.full(len(documents), offset == 0))

    def _epoch(self, number: int) -> _Epoch:
        """What an epoch reads; that of the last call is kept.

        The batches of each bucket are spread evenly over the epoch, since several of one length in a row would have the
        model expect that length.
        """
        if self._last and self._last[0].number == number:
            return self._last[0]
        rng = np.random.default_rng((self.seed or 0, number))
        order, places, windows = self._plan.order, [], []
        for bucket in self._buckets:
            documents = order[bucket.first : bucket.first + bucket.documents]
            if self.seed is not None:
                documents.sort()  # so that the order is a function of the seed and the epoch alone
                rng.shuffle(documents)
            places.append((np.arange(bucket.batches) + rng.random()) / bucket.batches)
            windows.append(np.full(bucket.batches, bucket.windows))
        batches = np.concatenate(places).argsort(kind="stable")
        self._last[:] = [_Epoch(number, order, batches, np.concatenate(windows)[batches].cumsum())]
        return self._last[0]

    @property
    def _buckets(self) -> list[_Bucket]:
        return self._plan.buckets

    @functools.cached_property
    def _bounds(self) -> NDArray[np.unsignedinteger]:
        return find_bounds(self.ids, self.end_id)

    @functools.cached_property
    def _plan(self) -> "_Plan":
        """What is the same in all epochs. Memory: 8 bytes a document as long as there are fewer than 2^32 ids."""
        bounds, empty = self._bounds, 1 + self.around
        sizes = np.diff(bounds)
        sizes += sizes.dtype.type(self.around)
        found, counts = np.unique(sizes, return_counts=True)
        full = found > empty
        if not full.any():
            raise TextError("the text holds no document: give one with characters, and an end after each")
        found, counts = found[full].astype(np.int64), counts[full]
        buckets, longest = _fill_buckets(found, counts, self.batch_size, self.sequence_length)
        number = np.empty(len(sizes), np.min_scalar_type(len(buckets)))
        edges = np.concatenate([[empty], longest]).astype(sizes.dtype)
        for first in range(0, len(sizes), SCANNED_AT_ONCE):  # else there would be 8 more bytes a document
            part = slice(first, first + SCANNED_AT_ONCE)
            number[part] = np.searchsorted(edges, sizes[part])
        order = np.empty(int(counts.sum()), np.min_scalar_type(len(sizes)))
        for place, bucket in enumerate(buckets, 1):
            order[bucket.first : bucket.first + bucket.documents] = np.flatnonzero(number == place)
        return _Plan(buckets, order, int((found * counts).sum()))


class _Plan(NamedTuple):
    """How the documents of a text are read in every epoch."""

    buckets: list[_Bucket]
    order: NDArray[np.unsignedinteger]  # (D,) the documents, bucket by bucket, in each as last drawn
    read: int  # ids


def find_bounds(ids: Ids, end_id: int) -> NDArray[np.unsignedinteger]:
    """Where documents begin, and after the last where it ends, (D + 1,): after each end symbol.

    ids: (N,), perhaps memory-mapped; never copied as a whole. What follows the last end symbol is no document.
    """
    refuse_changed(ids)
    firsts = range(0, len(ids), SCANNED_AT_ONCE)
    counts = [np.count_nonzero(ids[first : first + SCANNED_AT_ONCE] == end_id) for first in firsts]
    bounds = np.zeros(1 + sum(counts), np.promote_types(np.min_scalar_type(len(ids)), np.uint32))
    done = 1
    for first, count in zip(firsts, counts, strict=True):
        found = np.flatnonzero(ids[first : first + SCANNED_AT_ONCE] == end_id)
        bounds[done : done + count] = found + (first + 1)
        done += int(count)
    refuse_changed(ids)
    return bounds


def _fill_buckets(
    sizes: NDArray[np.int64], counts: NDArray[np.int64], lanes: int, longest_window: int
) -> tuple[list[_Bucket], NDArray[np.int64]]:
    """The buckets by which an epoch costs least, and the size of the largest document of each.

    sizes: of documents, rising, and counts: how many have each. Documents for which the same number and length of
    windows suffice are in one bucket; of these, neighbours are joined where that spares more than it adds.
    """
    windows = _round_up(-(-sizes // longest_window))
    lengths = np.minimum(_round_up(-(-sizes // windows)), longest_window)
    last = np.flatnonzero(np.append((np.diff(windows) != 0) | (np.diff(lengths) != 0), True))  # of each class
    longest, lengths, until = sizes[last], lengths[last], np.cumsum(counts)[last]  # (K,)
    windows = -(-longest // lengths)
    most_lanes = np.maximum(lanes * longest_window // lengths, 1)
    before = np.append(0, until)
    least, begins = np.zeros(len(last) + 1), np.zeros(len(last) + 1, dtype=np.int64)
    for end in range(1, len(last) + 1):  # the cheapest way to cut the first classes: the last bucket begins at …
        counted = before[end] - before[:end]
        batches = -(-counted // most_lanes[end - 1])
        costs = least[:end] + windows[end - 1] * lengths[end - 1] * (counted + LANES_A_STEP * batches)
        begins[end] = costs.argmin()
        least[end] = costs.min()
    buckets: list[_Bucket] = []
    kept: list[int] = []
    end = len(last)
    while end > 0:
        first, kind = int(before[begins[end]]), end - 1
        count = int(before[end]) - first
        batches = -(-count // int(most_lanes[kind]))
        buckets.append(_Bucket(first, count, batches, int(windows[kind]), int(lengths[kind])))
        kept.append(kind)
        end = int(begins[end])
    return buckets[::-1], longest[kept[::-1]]


def _round_up(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each number as one of few that are not less."""
    octave = np.maximum(np.ceil(np.log2(np.maximum(numbers, 1) / EXACT)), 0).astype(np.int64)
    unit = np.maximum((EXACT << octave) // (2 * STEPS_AN_OCTAVE), 1)
    rounded: NDArray[np.int64] = -(-numbers // unit) * unit
    return rounded
