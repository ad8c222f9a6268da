"""Batches: parts of a text read side by side, a step at a time.

Letters: `B` lanes, `T` steps, `N` characters of the text.

A batch says what is read, what follows each character, what of it counts, and which lanes begin afresh; the position in
the data is one integer. `Lanes` and `Segments` read a training text, in order or in a shuffled one, perhaps beside
lanes that read its beginnings; `Parts` are any parts of a text, to measure a model on them.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import TextError
from charlstm.text.beginnings import Beginnings
from charlstm.text.stored_ids import refuse_changed


class Batch(NamedTuple):
    """What one step reads."""

    inputs: NDArray[np.int64]  # (T, B)
    following: NDArray[np.int64]  # (T, B), the character after each input
    mask: NDArray[np.bool_]  # (T, B), what is predicted and counted
    fresh: NDArray[np.bool_]  # (B,), the lanes whose state begins at zero


class Batches(Protocol):
    """A training text, cut into steps that repeat every epoch."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which the text begins again."""

    @property
    def chars_per_step(self) -> int:
        """Characters that a step trains on, perhaps in the mean."""

    def batch(self, step: int) -> Batch:
        """The batch of a step counted from 0."""


@dataclass(frozen=True)
class Lanes:
    """One text as B contiguous parts that are read side by side, T characters a step.

    Truncated backpropagation through time (Williams & Peng 1990): step k continues where step k − 1 stopped, so the
    state is carried and the gradient alone is cut.

        lane 0  | step 0 | step 1 | …
        lane 1  | step 0 | step 1 | …        each lane is (N − 1) // B characters of the text, in order

    ids: (N,) integers, perhaps memory-mapped; never copied as a whole. Raises TextError for too short a text.
    """

    ids: NDArray[np.integer]
    batch_size: int
    sequence_length: int

    def __post_init__(self) -> None:
        _refuse_too_short(self.ids, self.batch_size, self.sequence_length)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in a lane; the few characters after the last complete one are left out."""
        return ((len(self.ids) - 1) // self.batch_size) // self.sequence_length

    @property
    def chars_per_step(self) -> int:
        """B · T."""
        return self.batch_size * self.sequence_length

    def batch(self, step: int) -> Batch:
        """The batch of a step counted from 0; every lane begins afresh with each epoch."""
        cursor = (step % self.steps_per_epoch) * self.sequence_length
        first = np.arange(self.batch_size) * ((len(self.ids) - 1) // self.batch_size) + cursor
        return _read_windows(self.ids, first, self.sequence_length, fresh=cursor == 0)


@dataclass(frozen=True)
class Segments:
    """One text as segments of K · T characters, each read by one lane in K steps and in an order drawn every epoch.

    Where the time does not suffice for the whole text, what is read is then a sample of all of it, and where it is read
    often, no two batches are alike. A segment begins afresh. An epoch reads each once, and the next goes on where it
    ended, in the same batch if need be; the few characters that fill no segment are now the first and now the last.

    ids: (N,) integers, perhaps memory-mapped; never copied as a whole. Raises TextError for too short a text.
    """

    ids: NDArray[np.integer]
    batch_size: int
    sequence_length: int
    steps: int  # K, or fewer so that there are at least B segments
    seed: int

    def __post_init__(self) -> None:
        _refuse_too_short(self.ids, self.batch_size, self.sequence_length)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which as many characters are read as the text has, less those that fill no step."""
        return ((len(self.ids) - 1) // self.batch_size) // self.sequence_length

    @property
    def chars_per_step(self) -> int:
        """B · T."""
        return self.batch_size * self.sequence_length

    def batch(self, step: int) -> Batch:
        """The batch of a step counted from 0: every lane is at the same step of its segment."""
        window, following = self.sequence_length, len(self.ids) - 1
        steps = min(self.steps, self.steps_per_epoch)
        count, unused = divmod(following, steps * window)
        number, step_within = divmod(step, steps)
        epochs, places = np.divmod(number * self.batch_size + np.arange(self.batch_size), count)
        first = np.empty(self.batch_size, dtype=np.int64)
        for epoch in range(epochs[0], epochs[-1] + 1):
            order, begin = _draw_order(count, unused, self.seed, epoch)
            first[epochs == epoch] = begin + order[places[epochs == epoch]] * steps * window
        return _read_windows(self.ids, first + step_within * window, window, fresh=step_within == 0)


@dataclass(frozen=True)
class WithBeginnings:
    """The lanes of other batches and, beside them, lanes that read beginnings of their text, afresh at each step."""

    others: Lanes | Segments
    beginnings: Beginnings

    @property
    def batch_size(self) -> int:
        """The lanes of both."""
        return self.others.batch_size + self.beginnings.lanes

    @property
    def steps_per_epoch(self) -> int:
        """Those of the others, which alone read the whole text."""
        return self.others.steps_per_epoch

    @property
    def chars_per_step(self) -> int:
        """B · T."""
        return self.batch_size * self.others.sequence_length

    def batch(self, step: int) -> Batch:
        """The batch of a step counted from 0, the beginnings in its last lanes."""
        batch = self.others.batch(step)
        refuse_changed(self.others.ids)
        windows = self.beginnings.windows(self.others.ids, self.others.sequence_length, step=step)
        refuse_changed(self.others.ids)
        beside = _as_batch(windows, fresh=True)
        return Batch(*(np.concatenate(parts, axis=-1) for parts in zip(batch, beside, strict=True)))


@dataclass(frozen=True)
class Parts:
    """Parts of one text that are read side by side, to measure a model on them.

    ids: (N,). first: (B,) where each part begins; before the text `start_id` is read. length: characters of a part.
    counted: two (B,) arrays, the positions from which and before which characters count.
    fresh: whether the parts begin from the zero state.
    """

    ids: NDArray[np.integer]
    first: NDArray[np.integer]
    length: int
    counted: tuple[NDArray[np.integer], NDArray[np.integer]]
    fresh: bool = False
    start_id: int = 0

    def batches(self, sequence_length: int) -> Iterator[Batch]:
        """Read the parts T characters at a time, the last time perhaps fewer."""
        since, until = self.counted
        last = len(self.ids) - 1
        for offset in range(0, self.length, sequence_length):
            at = self.first + np.arange(offset, min(offset + sequence_length, self.length))[:, None]  # (T, B)
            refuse_changed(self.ids)
            inputs, following = (self.ids[place.clip(0, last)].astype(np.int64) for place in (at, at + 1))
            refuse_changed(self.ids)
            yield Batch(
                np.where(at < 0, self.start_id, inputs),
                following,
                (at >= since) & (at < until),
                np.full(len(self.first), self.fresh and offset == 0),
            )


def _refuse_too_short(ids: NDArray[np.integer], lanes: int, window: int) -> None:
    needed = lanes * window + 1
    if len(ids) < needed:
        raise TextError(
            f"the training part of the text has {len(ids):,} characters, but {lanes} lanes (training.batch_size) of "
            f"{window} (training.sequence_length) need at least {needed:,}: give more text or make one of them smaller"
        )


@functools.lru_cache(maxsize=2)  # a batch may read the end of one epoch and the beginning of the next
def _draw_order(count: int, unused: int, seed: int, epoch: int) -> tuple[NDArray[np.int64], int]:
    """The order of an epoch's segments, (count,), and how many characters are left out before the first."""
    rng = np.random.default_rng((seed, epoch))
    return rng.permutation(count), int(rng.integers(unused + 1))


def _read_windows(ids: NDArray[np.integer], first: NDArray[np.int64], length: int, *, fresh: bool) -> Batch:
    """What lanes read that begin at these places, first (B,)."""
    refuse_changed(ids)
    windows = ids[first + np.arange(length + 1)[:, None]].astype(np.int64)  # (T + 1, B)
    refuse_changed(ids)
    return _as_batch(windows, fresh=fresh)


def _as_batch(windows: NDArray[np.int64], *, fresh: bool) -> Batch:
    """A batch all of whose characters count. windows: (T + 1, B)."""
    inputs, following = windows[:-1], windows[1:]
    return Batch(inputs, following, np.ones(following.shape, dtype=bool), np.full(windows.shape[1], fresh))
