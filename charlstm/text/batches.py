"""Batches: parts of a text read side by side, a step at a time.

Letters: `B` lanes, `T` steps, `N` characters of the text.

A batch says what is read, what follows each character, what of it counts, and which lanes begin afresh; the position in
the data is one integer. `Lanes` is the training stream, a few of its lanes perhaps read beginnings (`beginnings`);
`Parts` are any parts of a text, to measure a model on them.
"""

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
    def batch_size(self) -> int:
        """B."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which the text begins again."""

    @property
    def chars_per_step(self) -> int:
        """Characters that a step trains on."""

    def batch(self, step: int) -> Batch:
        """The batch of a step counted from 0."""


@dataclass(frozen=True)
class Lanes:
    """One text as B contiguous parts that are read side by side, T characters a step.

    Truncated backpropagation through time (Williams & Peng 1990): step k continues where step k − 1 stopped, so the
    state is carried and the gradient alone is cut.

        lane 0  | step 0 | step 1 | …
        lane 1  | step 0 | step 1 | …        each lane is (N − 1) // B characters of the text, in order

    The last lanes may read beginnings instead, at every step T characters from where another text might begin; the
    text is then cut into that many parts fewer.

    ids: (N,) integers, perhaps memory-mapped; never copied as a whole. Raises TextError for too short a text.
    """

    ids: NDArray[np.integer]
    batch_size: int
    sequence_length: int
    beginnings: Beginnings | None = None

    def __post_init__(self) -> None:
        needed = self.chars_per_step + 1
        if len(self.ids) < needed:
            raise TextError(
                f"the training part of the text has {len(self.ids):,} characters, but {self.batch_size} lanes "
                f"(training.batch_size) of {self.sequence_length} (training.sequence_length) need at least {needed:,}: "
                "give more text or make one of them smaller"
            )

    @property
    def stream_lanes(self) -> int:
        """The lanes that read the text from end to end: B, but for those that read beginnings."""
        return self.batch_size - (self.beginnings.lanes if self.beginnings else 0)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in a lane; the few characters after the last complete one are left out."""
        return ((len(self.ids) - 1) // self.stream_lanes) // self.sequence_length

    @property
    def chars_per_step(self) -> int:
        """B · T."""
        return self.batch_size * self.sequence_length

    def batch(self, step: int) -> Batch:
        """The batch of a step counted from 0; every lane begins afresh with each epoch, a beginning at each step."""
        lane_chars = (len(self.ids) - 1) // self.stream_lanes
        cursor = (step % self.steps_per_epoch) * self.sequence_length
        lanes = np.lib.stride_tricks.as_strided(  # a lane's last following character is the next lane's first
            self.ids,
            (self.stream_lanes, lane_chars + 1),
            (lane_chars * self.ids.strides[0], self.ids.strides[0]),
            writeable=False,
        )
        fresh = np.full(self.batch_size, cursor == 0)
        fresh[self.stream_lanes :] = True
        window = np.empty((self.sequence_length + 1, self.batch_size), dtype=np.int64)
        refuse_changed(self.ids)
        window[:, : self.stream_lanes] = lanes[:, cursor : cursor + self.sequence_length + 1].T
        if self.beginnings:
            window[:, self.stream_lanes :] = self.beginnings.windows(self.ids, self.sequence_length, step=step)
        refuse_changed(self.ids)
        return Batch(window[:-1], window[1:], np.ones(window[1:].shape, dtype=bool), fresh)


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
