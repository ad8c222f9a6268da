"""The tasks of "Long short-term memory" (Hochreiter & Schmidhuber 1997, 5.1 to 5.6): what is read, what is right.

Letters: `T` steps, `B` sequences, `I` numbers or symbols of an input, `O` output units; `p`, `q`, `k` are the paper's.

A task draws batches of `charlstm.text`: inputs are symbols (T, B) or numbers (T, B, I), targets the numbers of output
units (T, B) or numbers (T, B), and the mask says at which steps there is a target. Sequences begin at the first step
and from the zero state; what stands after the end of a shorter one is never counted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.text import Batch

Rng: TypeAlias = np.random.Generator
Draw: TypeAlias = Callable[[Rng, int], Batch]
Errors: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # of (T, B, O) and a batch: one a sequence, (B,)


@dataclass(frozen=True)
class Criterion:
    """When a task counts as solved, by one error a sequence: `count` of them, fewer than `wrong` not below `below`."""

    count: int
    below: float
    wrong: int = 1
    mean_below: float = np.inf

    def met(self, errors: NDArray[np.float32]) -> bool:
        """Whether the last `count` errors fulfil it."""
        last = errors[-self.count :]
        return len(last) == self.count and self.count_wrong(last) < self.wrong and bool(last.mean() < self.mean_below)

    def count_wrong(self, errors: NDArray[np.float32]) -> int:
        """How many of the errors are not below the limit."""
        return int((~(errors < self.below)).sum())


def largest_errors(outputs: Tensor, _inputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """The largest absolute error of any output unit at any counted step; symbols are held against probabilities."""
    if targets.is_floating_point():
        wrong = (outputs[..., 0] - targets).abs()
    else:
        wanted = torch.nn.functional.one_hot(targets, outputs.shape[-1])
        wrong = (outputs.softmax(dim=-1) - wanted).abs().amax(dim=-1)
    return wrong.masked_fill(~mask, 0.0).amax(dim=0)


def last_counted(mask: Tensor) -> Tensor:
    """Each sequence's last counted step alone, (T, B)."""
    return mask & (mask.flip(0).cumsum(0).flip(0) == 1)


def end_errors(outputs: Tensor, inputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """The largest absolute error of any output unit at each sequence's last counted step."""
    return largest_errors(outputs, inputs, targets, last_counted(mask))


@dataclass(frozen=True)
class Source:
    """The sequences of one trial."""

    draw: Draw  # to learn from
    test: Draw  # never learned from; their targets are without noise
    exam: Batch | None = None  # what the criterion is held against instead of `test`


@dataclass(frozen=True)
class Task:
    """A row of the paper's tables."""

    name: str
    paper: int  # sequences until success, the mean of the paper's trials
    input_size: int
    output_size: int
    length: int  # steps of a sequence, about
    criterion: Criterion
    is_tested: bool  # by sequences that are not learned from, or else by the last ones that were, before they were
    open: Callable[[int], Source]  # from the trial's seed
    errors: Errors = largest_errors


# 5.1: the embedded Reber grammar

REBER = "BTSXPVE"
REBER_STRINGS = 256  # to learn from
_INNER: tuple[Mapping[str, int], ...] = (  # where each symbol leads from each state of the Reber grammar
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": 7},
)
_T, _P, _END = 2, 10, 18  # the first states of the inner grammar after T and after P; the state before the last E


def _embed() -> list[dict[str, int]]:
    """The embedded grammar: B, T or P, a string of the inner grammar, the same T or P, E."""
    inner = [{symbol: first + state for symbol, state in row.items()} for first in (_T, _P) for row in (*_INNER, {})]
    states = [{"B": 1}, {"T": _T, "P": _P}, *inner, {"E": _END + 1}, {}]
    states[_T + len(_INNER)], states[_P + len(_INNER)] = {"T": _END}, {"P": _END}
    return states


EMBEDDED_REBER = _embed()
_LEGAL = torch.tensor([[symbol in row for symbol in REBER] for row in EMBEDDED_REBER])
_NEXT = torch.tensor([[row.get(symbol, 0) for symbol in REBER] for row in EMBEDDED_REBER])


def draw_reber(rng: Rng) -> str:
    """A string of the embedded grammar, either way with probability ½ wherever there are two."""
    string, state = "", 0
    while state <= _END:
        symbols = list(EMBEDDED_REBER[state])
        string += symbols[rng.integers(len(symbols))]
        state = EMBEDDED_REBER[state][string[-1]]
    return string


def reber_batch(strings: Sequence[str]) -> Batch:
    """Strings of which every next symbol is predicted."""
    lengths = np.array([len(string) - 1 for string in strings])
    ids = np.zeros((lengths.max() + 1, len(strings)), dtype=np.int64)
    for lane, string in enumerate(strings):
        ids[: len(string), lane] = [REBER.index(symbol) for symbol in string]
    return _batch(ids[:-1], ids[1:], np.arange(lengths.max())[:, None] < lengths)


def reber_errors(outputs: Tensor, inputs: Tensor, _targets: Tensor, mask: Tensor) -> Tensor:
    """1 for each string at some symbol of which the legal next ones are not the most active units, else 0."""
    state = torch.zeros_like(inputs[0])
    wrong = torch.zeros(inputs.shape[1], dtype=torch.bool)
    for read, output, counted in zip(inputs, outputs, mask, strict=True):
        state = _NEXT[state, read]
        legal = _LEGAL[state]
        least, most = output.masked_fill(~legal, np.inf).amin(1), output.masked_fill(legal, -np.inf).amax(1)
        wrong |= counted & ~(least > most)
    return wrong.float()


def open_reber(seed: int) -> Source:
    """256 strings to learn from, drawn again and again; the exam is these and 256 others that are none of them."""
    rng = np.random.default_rng((seed, 1))
    learned = [draw_reber(rng) for _ in range(REBER_STRINGS)]

    def draw_others(rng: Rng, size: int) -> list[str]:
        others: list[str] = []
        while len(others) < size:
            if (string := draw_reber(rng)) not in learned:
                others.append(string)
        return others

    def draw(rng: Rng, size: int) -> Batch:
        return reber_batch([learned[place] for place in rng.integers(REBER_STRINGS, size=size)])

    def test(rng: Rng, size: int) -> Batch:
        return reber_batch(draw_others(rng, size))

    return Source(draw, test, exam=reber_batch([*learned, *draw_others(rng, REBER_STRINGS)]))


# 5.2: long time lags, without noise and with


def draw_lag(rng: Rng, count: int, *, p: int, is_random: bool) -> Batch:
    """(x, a₁ … aₚ₋₁, x) or (y, a₁ … aₚ₋₁, y), every next symbol to be predicted; or any p − 1 of the a in between."""
    between = rng.integers(p - 1, size=(p - 1, count)) if is_random else np.arange(p - 1)[:, None].repeat(count, 1)
    ends = rng.integers(p - 1, p + 1, size=(1, count))  # x or y
    ids = np.concatenate([ends, between, ends])
    return _batch(ids[:-1], ids[1:], np.ones((p, count), dtype=bool))


def draw_long_lag(rng: Rng, count: int, *, p: int, q: int) -> Batch:
    """(b, x or y, q + k of the p distractors, e), after which x or y is predicted; P(k) = (9/10)ᵏ/10."""
    between = q + rng.geometric(0.1, size=count) - 1
    ids = rng.integers(p, size=(between.max() + 3, count))
    is_y = rng.integers(2, size=count)
    ids[0], ids[1] = p + 1, p + 2 + is_y
    ids[between + 2, np.arange(count)] = p
    return _at_end(ids, is_y, between + 3)


# 5.3: noise and signal on the same channel


def draw_two_sequences(
    rng: Rng, count: int, *, length: int, n: int, noisy_signal: bool, values: tuple[float, float], noise: float
) -> Batch:
    """N times 1 (class 1) or −1 (class 2), then normal numbers of variance 0.2; the class's value is the target.

    noisy_signal: whether such numbers are added to the first N as well. noise: variance added to the targets.
    """
    lengths = rng.integers(length, length + length // 10 + 1, size=count)
    first = rng.integers(2, size=count)  # of class 1
    inputs = rng.normal(scale=np.sqrt(0.2), size=(lengths.max(), count))
    inputs[:n] = np.where(first, 1.0, -1.0) + (inputs[:n] if noisy_signal else 0.0)
    targets = np.where(first, *values) + rng.normal(scale=np.sqrt(noise), size=count)
    return _at_end(inputs[:, :, None], targets, lengths)


# 5.4 and 5.5: adding and multiplication


def draw_marked(rng: Rng, count: int, *, length: int, multiply: bool) -> Batch:
    """Pairs of a value and a mark: 1 at two of them, −1 at both ends, else 0; the target joins the two marked values.

    A value that is marked in the first pair is set to what changes nothing, 0 or 1, and the pair keeps its −1.
    """
    lengths, lanes = rng.integers(length, length + length // 10 + 1, size=count), np.arange(count)
    values = rng.uniform(0 if multiply else -1, 1, size=(lengths.max(), count))
    one = rng.integers(10, size=count)
    other = rng.integers(length // 2 - 2, size=count)
    other += other >= one  # of those that are still unmarked
    values[0, (one == 0) | (other == 0)] = multiply
    marks = np.zeros_like(values)
    marks[one, lanes] = marks[other, lanes] = 1
    marks[0] = marks[lengths - 1, lanes] = -1
    x1, x2 = values[one, lanes], values[other, lanes]
    return _at_end(np.stack([values, marks], axis=-1), x1 * x2 if multiply else 0.5 + (x1 + x2) / 4, lengths)


# 5.6: temporal order


ORDER = "EBabcdXY"


def draw_order(rng: Rng, count: int, *, places: Sequence[tuple[int, int]]) -> Batch:
    """E, then a, b, c, d at random but X or Y at some place of each of `places`, then B; their order is the class.

    places: the first and the last, counted from 1.
    """
    lengths, lanes = rng.integers(100, 111, size=count), np.arange(count)
    ids = rng.integers(ORDER.index("a"), ORDER.index("X"), size=(lengths.max(), count))
    ids[0], ids[lengths - 1, lanes] = ORDER.index("E"), ORDER.index("B")
    classes = np.zeros(count, dtype=np.int64)
    for first, last in places:
        is_y = rng.integers(2, size=count)
        ids[rng.integers(first, last + 1, size=count) - 1, lanes] = ORDER.index("X") + is_y
        classes = 2 * classes + is_y
    return _at_end(ids, classes, lengths)


def _at_end(inputs: NDArray[Any], targets: NDArray[Any], lengths: NDArray[np.int64]) -> Batch:
    """One target a sequence, (B,), at its last step."""
    is_last = np.arange(len(inputs))[:, None] == lengths - 1
    return _batch(inputs, np.where(is_last, targets, np.zeros_like(targets)), is_last)


def _batch(inputs: NDArray[Any], targets: NDArray[Any], mask: NDArray[np.bool_]) -> Batch:
    return Batch(_as_read(inputs), _as_read(targets), mask, np.ones(mask.shape[1], dtype=bool))


def _as_read(part: NDArray[Any]) -> NDArray[Any]:
    return part.astype(np.float32 if part.dtype.kind == "f" else np.int64)
