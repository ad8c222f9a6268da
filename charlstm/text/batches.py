"""Batches: parts of a text read side by side, a step at a time.

Letters: `B` lanes, `T` steps, `N` characters of the text.

A batch says what is read, what follows each character, what of it counts, and which lanes begin afresh; the position in
the data is one integer. `Lanes` read a training text, perhaps beside lanes that read its beginnings; `Parts` are any
parts of a text, to measure a model on them.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
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

    def of_lanes(self, lanes: slice) -> "Batch":
        """What some of the lanes read."""
        return Batch(self.inputs[:, lanes], self.following[:, lanes], self.mask[:, lanes], self.fresh[lanes])


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
    """One text read by B lanes side by side, T characters a step, in order or in segments in a shuffled order.

    Truncated backpropagation through time (Williams & Peng 1990): step k continues where step k − 1 stopped, so the
    state is carried and the gradient alone is cut. In order, each lane reads (N − 1) // B characters of the text:

        lane 0  | step 0 | step 1 | …
        lane 1  | step 0 | step 1 | …

    With segments a lane goes on elsewhere after K steps, and begins afresh there. Where the time does not suffice for
    the whole text, what is read is a sample of all of it, and where it is read often, no two batches are alike. The
    order is drawn every epoch by (seed, epoch); an epoch reads each segment once, and the next goes on where it ended,
    in the same batch if need be. The few characters that fill no segment are now the first and now the last.

    ids: (N,) integers, perhaps memory-mapped; never copied as a whole. Raises TextError for too short a text.
    """

    ids: NDArray[np.integer]
    batch_size: int
    sequence_length: int
    segment_steps: int | None = None  # K, or fewer so that there are at least B segments; None to read in order
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.ids) < (needed := self.chars_per_step + 1):
            raise TextError(
                f"the training part of the text has {len(self.ids):,} characters, but {self.batch_size} lanes "
                f"(training.batch_size) of {self.sequence_length} (training.sequence_length) need at least {needed:,}: "
                "give more text or make one of them smaller"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which the text is read once, but for the few characters that fill no step."""
        return ((len(self.ids) - 1) // self.batch_size) // self.sequence_length

    @property
    def chars_per_step(self) -> int:
        """B · T."""
        return self.batch_size * self.sequence_length

    def batch(self, step: int) -> Batch:
        """The batch of a step counted from 0; all lanes begin afresh in the same steps."""
        if self.segment_steps is None:
            begins = np.arange(self.batch_size) * ((len(self.ids) - 1) // self.batch_size)
            step_within = step % self.steps_per_epoch
        else:
            steps = min(self.segment_steps, self.steps_per_epoch)
            number, step_within = divmod(step, steps)
            begins = self._segments(number * self.batch_size, steps * self.sequence_length)
        at = begins + step_within * self.sequence_length + np.arange(self.sequence_length + 1)[:, None]
        refuse_changed(self.ids)
        windows = self.ids[at].astype(np.int64)  # (T + 1, B)
        refuse_changed(self.ids)
        return _as_batch(windows, fresh=step_within == 0)

    def _segments(self, first: int, length: int) -> NDArray[np.int64]:
        """Where B segments of a length begin, (B,), of which the first is the `first` that is read."""
        count, unused = divmod(len(self.ids) - 1, length)
        epochs, places = np.divmod(first + np.arange(self.batch_size), count)
        begins = np.empty(self.batch_size, dtype=np.int64)
        for epoch in range(epochs[0], epochs[-1] + 1):
            order, skipped = _draw_order(count, unused, self.seed, epoch)
            begins[epochs == epoch] = skipped + order[places[epochs == epoch]] * length
        return begins


@dataclass(frozen=True)
class WithBeginnings:
    """The lanes of other batches and, beside them, lanes that read beginnings of their text, afresh at each step."""

    others: Lanes
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

    def of_lanes(self, lanes: slice) -> "Parts":
        """Some of the parts."""
        counted = self.counted[0][lanes], self.counted[1][lanes]
        return replace(self, first=self.first[lanes], counted=counted)

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


@functools.lru_cache(maxsize=2)  # a batch may read the end of one epoch and the beginning of the next
def _draw_order(count: int, unused: int, seed: int, epoch: int) -> tuple[NDArray[np.int64], int]:
    """The order of an epoch's segments, (count,), and how many characters are left out before the first."""
    rng = np.random.default_rng((seed, epoch))
    return rng.permutation(count), int(rng.integers(unused + 1))


def _as_batch(windows: NDArray[np.int64], *, fresh: bool) -> Batch:
    """A batch all of whose characters count. windows: (T + 1, B)."""
    inputs, following = windows[:-1], windows[1:]
    return Batch(inputs, following, np.ones(following.shape, dtype=bool), np.full(windows.shape[1], fresh))
