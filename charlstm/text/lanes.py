"""Lanes: one text cut into B contiguous parts that are read side by side, T steps at a time.

Letters: `B` lanes, `T` steps, `N` characters of the text, `S` characters of a lane.

Truncated backpropagation through time (Williams & Peng 1990): window k of every lane continues where window k − 1
stopped, so the state after one window is the state before the next and the gradient alone is cut.

    lane 0  | window 0 | window 1 | …
    lane 1  | window 0 | window 1 | …        each lane is S = (N − 1) // B characters of the text, in order
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import TextError


@dataclass(frozen=True)
class Lanes:
    """A training text as lanes. The position in the data is one integer, the number of the step.

    ids: (N,) integers, perhaps memory-mapped; never copied as a whole.
    """

    ids: NDArray[np.integer]
    batch_size: int
    sequence_length: int

    def __post_init__(self) -> None:
        needed = self.batch_size * self.sequence_length + 1
        if len(self.ids) < needed:
            raise TextError(
                f"the training part of the text has {len(self.ids):,} characters, but {self.batch_size} lanes "
                f"(training.batch_size) of {self.sequence_length} (training.sequence_length) need at least {needed:,}: "
                "give more text or make one of them smaller"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Windows in a lane; the few characters after the last whole window are left out."""
        return ((len(self.ids) - 1) // self.batch_size) // self.sequence_length

    def starts_epoch(self, step: int) -> bool:
        """Whether this step (counted from 0) reads the beginning of each lane, where no state carries over."""
        return step % self.steps_per_epoch == 0

    def window(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and targets of a step counted from 0: (T, B) each, the targets one character further on."""
        lane_chars = (len(self.ids) - 1) // self.batch_size
        cursor = (step % self.steps_per_epoch) * self.sequence_length
        lanes = np.lib.stride_tricks.as_strided(  # (B, S + 1): a lane's last target is the next lane's first character
            self.ids,
            (self.batch_size, lane_chars + 1),
            (lane_chars * self.ids.strides[0], self.ids.strides[0]),
            writeable=False,
        )
        window = lanes[:, cursor : cursor + self.sequence_length + 1].T.astype(np.int64, order="C")  # (T + 1, B)
        return window[:-1], window[1:]
