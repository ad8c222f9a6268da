"""How well a model predicts a text: tallies that are added up and divided once.

Letters: `T` steps, `B` lanes, `N` characters of the text, `V` vocabulary.

The first character of a text has nothing before it, so a text of N characters gives N − 1 predictions of a next
character, and N of a gap.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from charlstm.errors import TextError
from charlstm.machine.workers import Workers
from charlstm.networks.cores import State, join_lanes, lanes_of
from charlstm.networks.models import CharLM, ClozeLM

Protocol: TypeAlias = Literal["stream", "windows"]
Batch: TypeAlias = tuple[NDArray[Any], NDArray[Any]]  # inputs and targets, (T, B) each

WINDOW_CHARS = 256  # of the protocol "windows"; nanoGPT's character model sees as many
WARM_UP_CHARS = 512  # read before a lane's own part; after them its state is, as a rule, that of one unbroken stream
LOSS_STANDS = 3e-5  # nats per character: reading the lanes once more has changed no more than this
EVALUATED_LANES = 64  # side by side, if the caller does not say
UNCOUNTED = -100  # the target that cross_entropy leaves out


@dataclass(frozen=True)
class Tally:
    """Sums over predicted characters; every figure is a ratio of sums."""

    nats: float = 0.0
    hits: int = 0
    chars: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.nats + other.nats, self.hits + other.hits, self.chars + other.chars)

    @property
    def loss(self) -> float:
        """Cross-entropy in nats per character."""
        return self.nats / self.chars

    @property
    def bits_per_char(self) -> float:
        """Cross-entropy in bits per character."""
        return self.loss / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(loss): the size of the alphabet that a uniform guess would have to be made from."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def accuracy(self) -> float:
        """Share of characters that were the most probable one."""
        return self.hits / self.chars


def evaluate(
    model: CharLM | ClozeLM,
    ids: NDArray[np.integer],
    *,
    protocol: Protocol = "stream",
    batch_size: int = EVALUATED_LANES,
    sequence_length: int = 128,
    dtype: torch.dtype = torch.float32,
    workers: Workers | None = None,
    settle: bool = True,
) -> Tally:
    """Tally the model over a whole text, every character once.

    ids: (N,), perhaps memory-mapped.
    protocol: "stream" reads the text once from a zero state; "windows" starts anew every 256 predictions. A ClozeLM
    has one way of its own: each character from the 128 or more on either side of it, as far as the text reaches.
    batch_size, sequence_length, workers: how the work is cut; they move the result by rounding only, if it may settle.
    settle: read a stream that is cut into lanes again until their states fit together; without, a model that remembers
    for thousands of characters can be some thousandths of a nat off.
    Raises TextError for a text of fewer than 2 characters.
    """
    if len(ids) < 2:
        raise TextError(f"a text to evaluate needs at least 2 characters, this one has {len(ids)}")
    reader = _Reader(model, dtype, workers or Workers())
    if isinstance(model, ClozeLM):
        return _tally_apart(reader, _cloze(ids, batch_size))
    if protocol == "windows":
        return _tally_apart(reader, _windows(ids, batch_size))
    return _tally_stream(reader, ids, batch_size, sequence_length, settle)


def tally(logits: torch.Tensor, targets: torch.Tensor) -> Tally:
    """Tally of one batch. logits (T, B, V), targets (T, B) with UNCOUNTED where nothing is predicted."""
    counted = targets != UNCOUNTED
    chars = int(counted.sum())
    if chars == 0:
        return Tally()
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=UNCOUNTED, reduction="sum")
    hits = (logits.argmax(dim=-1) == targets) & counted
    return Tally(float(nats), int(hits.sum()), chars)


@dataclass(frozen=True)
class _Reader:
    """A model, and what it computes in and with."""

    model: CharLM | ClozeLM
    dtype: torch.dtype
    workers: Workers

    def read(self, inputs: NDArray[Any], targets: NDArray[Any], state: State | None) -> tuple[Tally, State]:
        """Tally of one batch, inputs and targets (T, B), and the state after it."""
        device = self.model.output.weight.device
        ids, expected = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (inputs, targets))

        @torch.no_grad()
        def part_of(lanes: slice) -> tuple[Tally, State]:
            logits, after = self.model(ids[:, lanes], lanes_of(state, lanes), dtype=self.dtype)
            return tally(logits, expected[:, lanes]), after

        tallies, states = zip(*self.workers.map_lanes(part_of, ids.shape[1]), strict=True)
        return sum(tallies, Tally()), join_lanes(states)


def _tally_stream(
    reader: _Reader, ids: NDArray[np.integer], batch_size: int, sequence_length: int, settle: bool
) -> Tally:
    """Read the text in lanes side by side, each from the state that the lane before it ends in.

    Where a lane begins, its state is at first a guess, from the characters before it. The end of the lane before tells
    what it should have been: the lane's head is read again from there. If that moves its loss, the model remembering
    for longer, the lanes are read again from those ends, which sets at least one more lane right each time.
    """
    predictions = len(ids) - 1
    lanes = min(batch_size, predictions // (WARM_UP_CHARS * (16 if settle else 4)))
    lane_chars = -(-predictions // max(1, lanes))
    starts = np.arange(0, predictions, lane_chars)  # (B,)
    if len(starts) == 1:
        return _read_lanes(reader, ids, starts, range(0, lane_chars, sequence_length), None)[0]
    before = range(-WARM_UP_CHARS, 0, sequence_length)
    head, rest = range(0, WARM_UP_CHARS, sequence_length), range(WARM_UP_CHARS, lane_chars, sequence_length)
    begins = _zero_first(_read_lanes(reader, ids, starts, before, None)[1])
    while True:
        of_head, state = _read_lanes(reader, ids, starts, head, begins)
        of_rest, ends = _read_lanes(reader, ids, starts, rest, state)
        if not settle:
            return of_head + of_rest
        begins = _zero_first(tuple(part.roll(1, dims=1) for part in ends))
        again, _ = _read_lanes(reader, ids, starts, head, begins)
        if not abs(again.loss - of_head.loss) > LOSS_STANDS:  # which is so as well when it is not a number
            return again + of_rest


def _read_lanes(
    reader: _Reader, ids: NDArray[np.integer], starts: NDArray[np.integer], offsets: range, state: State | None
) -> tuple[Tally, State]:
    """Tally of the characters at these offsets from the lanes' starts (B,), T at a time, and the state after them.

    What stands before a lane's start, or after the text, is read and not counted.
    """
    total = Tally()
    for first in offsets:
        at = starts + np.arange(first, min(first + offsets.step, offsets.stop))[:, None]  # (T, B)
        counted = (at >= starts) & (at < len(ids) - 1)
        at = at.clip(0, len(ids) - 2)
        targets = np.where(counted, ids[at + 1].astype(np.int64), UNCOUNTED)
        added, state = reader.read(ids[at], targets, state)
        total += added
    assert state is not None
    return total, state


def _zero_first(state: State) -> State:
    """The state (each L, B, H) with lane 0 set to zero: nothing comes before it."""
    for part in state:
        part[:, 0] = 0.0
    return state


def _tally_apart(reader: _Reader, batches: Iterator[Batch]) -> Tally:
    """Tally of batches that each begin from a zero state."""
    return sum((reader.read(inputs, targets, None)[0] for inputs, targets in batches), Tally())


def _windows(ids: NDArray[np.integer], batch_size: int) -> Iterator[Batch]:
    """Batches (256, B) of windows cut end to end, each from a zero state."""
    predictions = len(ids) - 1
    steps = np.arange(WINDOW_CHARS)[:, None]  # (T, 1)
    starts = np.arange(0, predictions, WINDOW_CHARS)
    for first in range(0, len(starts), batch_size):
        at = starts[first : first + batch_size] + steps  # (T, B)
        counted = at < predictions
        at = at.clip(0, predictions - 1)
        yield ids[at], np.where(counted, ids[at + 1].astype(np.int64), UNCOUNTED)


def _cloze(ids: NDArray[np.integer], batch_size: int) -> Iterator[Batch]:
    """Batches (512, B) of overlapping windows; the 256 characters in the middle of each are predicted."""
    steps = np.arange(min(len(ids), 2 * WINDOW_CHARS))[:, None]  # (T, 1)
    firsts = np.arange(0, len(ids), WINDOW_CHARS)  # of the characters that a window predicts
    for first in (firsts[at : at + batch_size] for at in range(0, len(firsts), batch_size)):
        at = (first - WINDOW_CHARS // 2).clip(0, len(ids) - len(steps)) + steps  # (T, B)
        counted = (at >= first) & (at < first + WINDOW_CHARS)
        inputs = ids[at].astype(np.int64)
        yield inputs, np.where(counted, inputs, UNCOUNTED)
