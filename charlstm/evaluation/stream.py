"""One unbroken stream, read in lanes side by side, with the result of reading it from its beginning to its end.

Letters: `B` lanes, `L` layers, `H` hidden, `N` characters of the text.

Where a lane begins, its state is at first assumed: one that the model comes to at the beginning of the text, moved on
by the characters before the lane. The end of the lane before shows what it should have been. Where the two do not agree
the lane is read again from there, until its state agrees with the one that it had at the same place before. A model
that remembers something to the end of the lane has the next lane read again as well, and so on, lane after lane; at
worst the text is read four times.
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
AGREEMENT = 1e-3  # of two numbers of a state below 1; in bfloat16 4 units of rounding
COUNT_AGREEMENT = 0.03  # of two counts, numbers of a cell state above 1, relative; in bfloat16 16 units of rounding
SATURATED = 16.0  # of a cell state; one that counts reaches it, and tanh is 1 long before


class StreamTally(NamedTuple):
    """The tally of a stream, and how it was read."""

    tally: Tally
    lanes: int
    reread_chars: int


def tally_stream(reader: Reader, ids: Ids, most_lanes: int, *, start_id: int) -> StreamTally:
    """Tally a model over ids (N,), each character once, as if they were read one by one after the start symbol."""
    lane_chars = -(-len(ids) // max(1, min(most_lanes, len(ids) // LEAST_LANE_CHARS)))
    starts = np.arange(-1, len(ids) - 1, lane_chars)
    lanes = _Lanes(reader, ids, start_id, starts, [*_stretches(lane_chars)], [], [])
    ends = lanes.read_all()
    reread_chars = 0
    most = len(lanes.starts)
    while len(wrong := lanes.find_wrong(ends)):
        together = len(wrong) <= most  # else only the first of them is sure to begin with the right state now
        reread_chars += lanes.read_again(wrong if together else wrong[:1], ends)
        most = len(wrong) // 2 if together else 0
    tally = sum((tally.total() for tally in lanes.tallies), Tally())
    return StreamTally(tally, len(lanes.starts), reread_chars)


@dataclass
class _Lanes:
    """B lanes of a text, each cut into the same stretches, with what is known of every stretch."""

    reader: Reader
    ids: Ids
    start_id: int
    starts: NDArray[np.intp]  # (B,), −1 is the start symbol
    stretches: list[tuple[int, int]]  # offset from the start of the lane, and length
    before: list[State]  # the state before each stretch
    tallies: list[LaneTallies]  # of each stretch

    def read_all(self) -> State:
        """Read every lane from an assumed state; return the states (each L, B, H) at their ends."""
        every = np.arange(len(self.starts))
        state = self.reader.model.core.zero_state(1, like=self.reader.model.output.weight)
        if len(every) > 1:
            _, usual = self._read(every[:1], (0, LEAST_LANE_CHARS), state)
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
        parts = Parts(self.ids, starts + offset, length, counted=(starts, until), start_id=self.start_id)
        return self.reader.read(parts, state)

    def _differ(self, one: State, other: State) -> NDArray[np.bool_]:
        """Whether two states differ, lane by lane (B,), beyond rounding.

        A cell state is seen through tanh: two that have counted beyond SATURATED look the same for as many characters
        to come, and those that only count up never agree on the number. They are taken as equal, so that a unit that
        counts further and back again is missed. Not so where peepholes show the gates the cell itself.
        """
        seen_directly = self.reader.model.core.cell.weight_ch_shape is not None
        saturated = float("inf") if seen_directly else SATURATED
        rounding = torch.finfo(self.reader.dtype).eps
        agreement, count_agreement = max(AGREEMENT, 4 * rounding), max(COUNT_AGREEMENT, 16 * rounding)
        apart = []
        for a, b in zip(one, other, strict=True):
            less = torch.minimum(a.abs(), b.abs())
            allowed = torch.where(less < 1.0, agreement, count_agreement * less)
            allowed = allowed.masked_fill((less > saturated) & (a.sign() == b.sign()), float("inf"))
            apart.append(((a - b).abs() > allowed).any(dim=2).any(dim=0))  # what is not a number differs from nothing
        return torch.stack(apart).any(dim=0).cpu().numpy()


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
