"""One unbroken stream, read in lanes side by side, with the result of reading it from its beginning to its end.

Letters: `B` lanes, `L` layers, `H` hidden, `N` characters of the text.

Where a lane begins, its state is at first assumed: one that the model comes to at the beginning of the text, moved on
by the characters before the lane. The end of the lane before shows what it should have been. Where the two do not agree
the lane is read again from there, until its state agrees with the one that it had at the same place before. A model
that remembers something to the end of the lane has the next lane read again as well, and so on, in the worst case lane
after lane.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.cells import State
from charlstm.evaluation.reader import Reader
from charlstm.evaluation.tally import LaneTallies, Tally
from charlstm.text import Ids, Parts

WARM_UP_CHARS = 512  # read before a lane; after them most models are in the state of one unbroken stream
LEAST_LANE_CHARS = 8 * WARM_UP_CHARS  # with fewer, too much is read twice
AGREEMENT = 1e-3  # between two states as the network sees them; in bfloat16 four units of rounding


class StreamTally(NamedTuple):
    """The tally of a stream, and how it was read."""

    tally: Tally
    lanes: int
    reread_chars: int


def tally_stream(reader: Reader, ids: Ids, most_lanes: int) -> StreamTally:
    """Tally a model over ids (N,), each character once, as if it were read from the first to the last."""
    predictions = len(ids) - 1
    lane_chars = -(-predictions // max(1, min(most_lanes, predictions // LEAST_LANE_CHARS)))
    lanes = _Lanes(reader, ids, np.arange(0, predictions, lane_chars), [*_stretches(lane_chars)], [], [])
    ends = lanes.read_all()
    reread_chars = 0
    while len(wrong := lanes.find_wrong(ends)):
        reread_chars += lanes.read_again(wrong, ends)
    tally = sum((tally.total() for tally in lanes.tallies), Tally())
    return StreamTally(tally, len(lanes.starts), reread_chars)


@dataclass
class _Lanes:
    """B lanes of a text, each cut into the same stretches, with what is known of every stretch."""

    reader: Reader
    ids: Ids
    starts: NDArray[np.intp]  # (B,)
    stretches: list[tuple[int, int]]  # offset from the start of the lane, and length
    before: list[State]  # the state before each stretch
    tallies: list[LaneTallies]  # of each stretch

    def read_all(self) -> State:
        """Read every lane from an assumed state; return the states (each L, B, H) at their ends."""
        every = np.arange(len(self.starts))
        _, usual = self._read(every[:1], (0, LEAST_LANE_CHARS), None)
        assumed = tuple(part.repeat(1, len(every), 1) for part in usual)
        _, state = self._read(every, (-WARM_UP_CHARS, WARM_UP_CHARS), assumed)
        for part in state:
            part[:, 0] = 0.0  # nothing comes before the first lane
        for stretch in self.stretches:
            self.before.append(state)
            tally, state = self._read(every, stretch, state)
            self.tallies.append(tally)
        return state

    def find_wrong(self, ends: State) -> NDArray[np.intp]:
        """The lanes that were read from another state than that at the end of the lane before."""
        lanes = np.arange(1, len(self.starts))
        return lanes[self._differ(_take(ends, lanes - 1), _take(self.before[0], lanes))]

    def read_again(self, lanes: NDArray[np.intp], ends: State) -> int:
        """Read some lanes from the ends of those before, each until it agrees with its last reading.

        Sets the ends of those that never do. Returns the number of characters read.
        """
        chars = 0
        state = _take(ends, lanes - 1)
        for number, stretch in enumerate(self.stretches):
            differ = self._differ(state, _take(self.before[number], lanes))
            lanes, state = lanes[differ], _take(state, np.flatnonzero(differ))
            if not len(lanes):
                return chars
            _put(self.before[number], lanes, state)
            tally, state = self._read(lanes, stretch, state)
            self.tallies[number].put(lanes, tally)
            chars += len(lanes) * stretch[1]
        _put(ends, lanes, state)
        return chars

    def _read(
        self, lanes: NDArray[np.intp], stretch: tuple[int, int], state: State | None
    ) -> tuple[LaneTallies, State]:
        offset, length = stretch
        starts = self.starts[lanes]
        until = np.full(len(lanes), len(self.ids) - 1)
        return self.reader.read(Parts(self.ids, starts + offset, length, counted=(starts, until)), state)

    def _differ(self, one: State, other: State) -> NDArray[np.bool_]:
        """Whether two states differ, lane by lane (B,), beyond rounding.

        They are compared as the network sees them, which is the cell state through tanh: units that only count up, to
        hundreds, never come to the same number and never need to.
        """
        agreement = max(AGREEMENT, 4 * torch.finfo(self.reader.dtype).eps)
        apart = [(a.tanh() - b.tanh()).abs().amax(dim=(0, 2)) for a, b in zip(one, other, strict=True)]
        return (torch.stack(apart).amax(dim=0) > agreement).cpu().numpy()  # what is not a number differs from nothing


def _stretches(lane_chars: int) -> Iterator[tuple[int, int]]:
    """Offsets and lengths of a lane's stretches, each as long as all before it, so that few states are kept."""
    offset, length = 0, WARM_UP_CHARS
    while offset < lane_chars:
        yield offset, min(length, lane_chars - offset)
        offset += length
        length = offset


def _take(state: State, lanes: NDArray[np.intp]) -> State:
    """The state (each L, B, H) of some lanes."""
    return tuple(part[:, torch.from_numpy(lanes).to(part.device)] for part in state)


def _put(state: State, lanes: NDArray[np.intp], of_lanes: State) -> None:
    """Set the state of some lanes."""
    for part, of_part in zip(state, of_lanes, strict=True):
        part[:, torch.from_numpy(lanes).to(part.device)] = of_part
