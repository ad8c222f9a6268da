"""How well a model predicts a text: tallies that are added up and divided once.

Letters: `T` steps, `B` lanes, `N` characters of the text, `V` vocabulary.

The first character of a text has nothing before it, so a text of N characters gives N − 1 predictions of a next
character, and N of a gap.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from charlstm.errors import TextError
from charlstm.model import CharLM, ClozeLM

Protocol: TypeAlias = Literal["stream", "windows"]
Batch: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], "Carry"]
Carry: TypeAlias = Literal["state", "state of later lanes", "nothing"]

WINDOW_CHARS = 256  # of the protocol "windows"; nanoGPT's character model sees as many
WARM_UP_CHARS = 512  # read before a lane's own part; after them its state is that of one unbroken stream
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


@torch.no_grad()
def evaluate(
    model: CharLM | ClozeLM,
    ids: NDArray[np.integer],
    *,
    protocol: Protocol = "stream",
    batch_size: int = 64,
    sequence_length: int = 128,
    dtype: torch.dtype = torch.float32,
) -> Tally:
    """Tally the model over a whole text, every character once.

    ids: (N,), perhaps memory-mapped.
    protocol: "stream" reads the text once from a zero state; "windows" starts anew every 256 predictions. A ClozeLM
    has one way of its own: each character from the 128 or more on either side of it, as far as the text reaches.
    batch_size, sequence_length: how the work is cut; they move the result by rounding only. Reading in lanes, each
    lane after the first warms its state up on the 512 characters before it.
    Raises TextError for a text of fewer than 2 characters.
    """
    if len(ids) < 2:
        raise TextError(f"a text to evaluate needs at least 2 characters, this one has {len(ids)}")
    device = model.output.weight.device
    if isinstance(model, ClozeLM):
        batches = _cloze(ids, batch_size)
    elif protocol == "windows":
        batches = _windows(ids, batch_size)
    else:
        batches = _stream(ids, batch_size, sequence_length)
    state = None
    total = Tally()
    for inputs, targets, carry in batches:
        expected = torch.from_numpy(targets).to(device)  # (T, B)
        logits, state = model(torch.from_numpy(inputs).to(device), state, dtype=dtype)
        total += tally(logits, expected)
        if carry == "nothing":
            state = None
        elif carry == "state of later lanes":
            for part in state:
                part[:, 0] = 0.0  # lane 0 begins the text: nothing came before it
    return total


def tally(logits: torch.Tensor, targets: torch.Tensor) -> Tally:
    """Tally of one batch. logits (T, B, V), targets (T, B) with UNCOUNTED where nothing is predicted."""
    counted = targets != UNCOUNTED
    chars = int(counted.sum())
    if chars == 0:
        return Tally()
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=UNCOUNTED, reduction="sum")
    hits = (logits.argmax(dim=-1) == targets) & counted
    return Tally(float(nats), int(hits.sum()), chars)


def _stream(ids: NDArray[np.integer], batch_size: int, sequence_length: int) -> Iterator[Batch]:
    """Batches (T, B) that read the text in lanes, each warmed up on what stands before it."""
    predictions = len(ids) - 1
    lanes = max(1, min(batch_size, predictions // (4 * WARM_UP_CHARS)))  # at most a quarter more work
    lane_chars = -(-predictions // lanes)
    starts = np.arange(lanes) * lane_chars  # (B,)
    steps = np.arange(sequence_length)[:, None]  # (T, 1)
    warm_up_windows = -(-WARM_UP_CHARS // sequence_length) if lanes > 1 else 0
    for window in range(-warm_up_windows, -(-lane_chars // sequence_length)):
        offset = window * sequence_length + steps
        at = starts + offset  # (T, B)
        counted = (offset >= 0) & (offset < lane_chars) & (at < predictions)
        at = at.clip(0, predictions - 1)
        targets = np.where(counted, ids[at + 1].astype(np.int64), UNCOUNTED)
        yield ids[at].astype(np.int64), targets, "state of later lanes" if window == -1 else "state"


def _windows(ids: NDArray[np.integer], batch_size: int) -> Iterator[Batch]:
    """Batches (256, B) of windows cut end to end, each from a zero state."""
    predictions = len(ids) - 1
    steps = np.arange(WINDOW_CHARS)[:, None]  # (T, 1)
    starts = np.arange(0, predictions, WINDOW_CHARS)
    for first in range(0, len(starts), batch_size):
        at = starts[first : first + batch_size] + steps  # (T, B)
        counted = at < predictions
        at = at.clip(0, predictions - 1)
        yield ids[at].astype(np.int64), np.where(counted, ids[at + 1].astype(np.int64), UNCOUNTED), "nothing"


def _cloze(ids: NDArray[np.integer], batch_size: int) -> Iterator[Batch]:
    """Batches (512, B) of overlapping windows; the 256 characters in the middle of each are predicted."""
    steps = np.arange(min(len(ids), 2 * WINDOW_CHARS))[:, None]  # (T, 1)
    firsts = np.arange(0, len(ids), WINDOW_CHARS)  # of the characters that a window predicts
    for first in (firsts[at : at + batch_size] for at in range(0, len(firsts), batch_size)):
        at = (first - WINDOW_CHARS // 2).clip(0, len(ids) - len(steps)) + steps  # (T, B)
        counted = (at >= first) & (at < first + WINDOW_CHARS)
        inputs = ids[at].astype(np.int64)
        yield inputs, np.where(counted, inputs, UNCOUNTED), "nothing"
