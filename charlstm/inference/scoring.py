"""Lines to the surprisal of each of their symbols, many lines side by side.

A line x₁ … xₙ costs −Σ ln p(xₜ | s, x₁ … xₜ₋₁) − ln p(e | s, x₁ … xₙ) nats: s is the symbol that texts begin after,
which is read and never counted, e the one with which lines end (`text.start_id`, `text.end_id`); without an e the
second term is missing.

Letters: `B` lanes, `T` steps, `V` vocabulary, `N` lines, `S` symbols of all lines, ends included.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.cells import State
from charlstm.inference.engine import Stepper
from charlstm.inference.fast_lstm import build_stepper
from charlstm.inference.guess_rank import DRAWN_LINES, GuessRanks, draw_lines
from charlstm.settings import ModelSettings
from charlstm.text import Line, LongLine, Vocab, code_points, end_id, start_id
from charlstm.text.characters import CODE_POINTS, normalize_form, normalize_newlines
from charlstm.weights import Weights

LANES = 128  # lines read side by side: a core multiplies at its full speed from 64 on
LANES_TOGETHER = 16  # lanes are a multiple of it
PIECE_STEPS = 1024  # whose ids are laid out at once
OUTPUT_MULTIPLE = 64  # of the symbols that the output layer is padded to; see `_padded`
UNKNOWN_NATS = math.log(CODE_POINTS)  # of a character for which the model has no symbol: any code point, equally likely


class Lines(NamedTuple):
    """N lines in ids, end to end: −1 is a character for which there is no symbol."""

    ids: NDArray[np.int32]  # (S less the ends,)
    lengths: NDArray[np.int64]  # (N,)
    unknown: NDArray[np.int64]  # (N,), characters that are not in the vocabulary


@dataclass(frozen=True)
class LineScores:
    """What N lines cost, each with its end."""

    nats: NDArray[np.float64]  # (N,)
    chars: NDArray[np.int64]  # (N,), those that are counted: the end is one
    unknown: NDArray[np.int64]  # (N,), of these those that are not in the vocabulary
    nats_of_symbols: NDArray[np.float32] | None = None  # (S,); None of a long line

    @classmethod
    def of_symbols(
        cls, symbols: NDArray[np.float32], chars: NDArray[np.int64], unknown: NDArray[np.int64]
    ) -> "LineScores":
        """The sums of lines whose symbols stand end to end."""
        nats = np.zeros(len(chars))
        some = chars > 0
        if some.any():
            nats[some] = np.add.reduceat(symbols, (chars.cumsum() - chars)[some], dtype=np.float64)
        return cls(nats, chars, unknown, symbols)

    def by_line(self) -> Iterator[NDArray[np.float32] | None]:
        """The nats of the symbols of one line after another."""
        if self.nats_of_symbols is None:
            yield from [None] * len(self.nats)
            return
        last = self.chars.cumsum()
        for first, end in zip((last - self.chars).tolist(), last.tolist(), strict=True):
            yield self.nats_of_symbols[first:end]


def encode_lines(vocab: Vocab, lines: Sequence[bytes]) -> Lines:
    """The ids of lines without their line ends; no bytes are refused: what is not UTF-8 is unknown, byte by byte."""
    texts = [decode_line(vocab, line) for line in lines]
    ids = vocab.lookup(code_points("".join(texts)))
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    strange = np.flatnonzero(ids < 0)
    unknown = np.bincount(np.searchsorted(lengths.cumsum(), strange, side="right"), minlength=len(texts))
    if vocab.unknown_id is not None and len(strange):
        ids[strange] = vocab.unknown_id
    return Lines(ids, lengths, unknown)


def decode_line(vocab: Vocab, line: bytes) -> str:
    """The characters of a line as the vocabulary counts them."""
    text = line.decode("latin-1" if vocab.unit == "byte" else "utf-8", "surrogateescape")
    if vocab.newline == "normalize" or vocab.has_boundary:  # of lines that are documents neither end is a part
        text = text.removesuffix("\r")
    if vocab.newline == "normalize":
        text = normalize_newlines(text)
    return normalize_form(text, vocab.normalize)


class LineScorer:
    """Scores lines by a model of the next character, on as many threads as it is given.

    A line's surprisals are the same bits whatever is scored beside it: OpenBLAS computes each row of a product alike
    if there are a multiple of LANES_TOGETHER of them and the columns are one of OUTPUT_MULTIPLE (tests compare them).
    Those of a long line, which is read alone, differ by rounding.
    """

    def __init__(self, weights: Weights, settings: ModelSettings, vocab: Vocab, *, threads: int = 1) -> None:
        """weights: as `model.safetensors` holds them, checked by `check_weights`."""
        self.vocab = vocab
        self.start, self.end = start_id(vocab), end_id(vocab)
        self._pool = ThreadPoolExecutor(threads)
        self._steppers: SimpleQueue[Stepper] = SimpleQueue()  # each steps in arrays of its own
        for _ in range(threads):
            self._steppers.put(build_stepper(_padded(weights), settings))

    def score(self, lines: Sequence[Line]) -> LineScores:
        """What lines without their line ends cost, in their order.

        A long line comes alone (`LineReader.take`); what counts is its beginning, without an end.
        """
        if len(lines) == 1 and isinstance(lines[0], LongLine):
            return self._score_long(lines[0].head())
        return self._score_short([line for line in lines if isinstance(line, bytes)])

    def guess_ranks(self) -> GuessRanks:
        """Ranks of lines among all that the model can make, from lines that it makes."""
        stepper = self._steppers.get()
        try:
            lines = draw_lines(stepper, self.vocab)
        finally:
            self._steppers.put(stepper)
        return GuessRanks(np.sort(self.score(lines).nats), DRAWN_LINES)

    def _score_short(self, lines: Sequence[bytes]) -> LineScores:
        encoded = encode_lines(self.vocab, lines)
        known = encoded.ids >= 0
        ends = self.end is not None
        chars = encoded.lengths + ends
        symbols = np.full(int(chars.sum()), UNKNOWN_NATS, dtype=np.float32)
        place = np.arange(len(known)) + np.repeat(np.arange(len(lines)) * ends, encoded.lengths)  # in `symbols`
        line_of = np.repeat(np.arange(len(lines)), encoded.lengths)
        counts = np.bincount(line_of[known], minlength=len(lines))  # characters that are read
        found = self._score_ids(encoded.ids[known], counts)
        is_end = np.zeros(len(found), dtype=bool)
        if ends:
            is_end[(counts + 1).cumsum() - 1] = True
            symbols[chars.cumsum() - 1] = found[is_end]
        symbols[place[known]] = found[~is_end]
        return LineScores.of_symbols(symbols, chars, encoded.unknown)

    def _score_long(self, head: bytes) -> LineScores:
        """What the beginning of a line costs that is too long to be read to its end."""
        encoded = encode_lines(self.vocab, [head])
        ids = encoded.ids[encoded.ids >= 0]
        nats = UNKNOWN_NATS * (len(encoded.ids) - len(ids))
        stepper = self._steppers.get()
        try:
            state, read = stepper.zero_state(1), np.append(self.start, ids)[:, None]
            for first in range(0, len(ids), PIECE_STEPS):
                part = read[first : first + PIECE_STEPS + 1]
                surprisals, state = _read(stepper, part[:-1], part[1:], state, [1] * (len(part) - 1))
                nats += float(surprisals.sum(dtype=np.float64))
        finally:
            self._steppers.put(stepper)
        return LineScores(np.array([nats]), encoded.lengths, encoded.unknown)

    def _score_ids(self, ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """The surprisals of lines (N,) of ids, end to end, with that of each line's end."""
        counts = lengths + (self.end is not None)
        starts, into = lengths.cumsum() - lengths, counts.cumsum() - counts
        ids = np.append(ids, 0)  # read for lanes that have ended
        found = np.zeros(int(counts.sum()), dtype=np.float32)
        order = np.argsort(-counts, kind="stable")
        batches = [order[first : first + LANES] for first in range(0, len(order), LANES)]

        def score_batch(batch: NDArray[np.intp]) -> None:
            stepper = self._steppers.get()
            try:
                self._score_batch(stepper, ids, starts[batch], counts[batch], found, into[batch])
            finally:
                self._steppers.put(stepper)

        for _ in self._pool.map(score_batch, batches) if len(batches) > 1 else map(score_batch, batches):
            pass
        return found

    def _score_batch(
        self,
        stepper: Stepper,
        ids: NDArray[np.int32],
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
        found: NDArray[np.float32],
        into: NDArray[np.int64],
    ) -> None:
        """Read B lines, the longest first, and write their surprisals to where each begins in `found`."""
        idle = -len(starts) % LANES_TOGETHER
        starts, counts, into = (np.pad(array, (0, idle)) for array in (starts, counts, into))
        state = stepper.zero_state(len(starts))
        lengths = counts - (self.end is not None)
        last = np.full((1, len(starts)), self.start)
        for first in range(0, int(counts[0]), PIECE_STEPS):
            steps = np.arange(first, min(first + PIECE_STEPS, int(counts[0])))[:, None]
            targets = ids.take(starts + np.minimum(steps, lengths), mode="clip").astype(np.intp)  # (T, B)
            if self.end is not None:
                targets[steps >= lengths] = self.end
            inputs = np.concatenate([last, targets[:-1]])
            live = (steps < counts).sum(axis=1)
            lanes = -(-live // LANES_TOGETHER) * LANES_TOGETHER
            surprisals, state = _read(stepper, inputs, targets, state, lanes.tolist())
            last = targets[-1:]
            counted = steps < counts
            found[(into + steps)[counted]] = surprisals[counted]


def _read(
    stepper: Stepper, inputs: NDArray[Any], targets: NDArray[Any], state: State, lanes: Sequence[int]
) -> tuple[NDArray[np.float32], State]:
    """The surprisals (T, B) of targets (T, B), each after its input; lanes: of each step, those that are still read."""
    found = np.zeros(targets.shape, dtype=np.float32)
    rows = np.arange(targets.shape[1])
    for step, count in enumerate(lanes):
        if count < state[0].shape[1]:
            state = tuple(part[:, :count] for part in state)
        logits, state = stepper.step(inputs[step, :count], state)
        of_target = logits[rows[:count], targets[step, :count]]
        highest = logits.max(axis=1)
        logits -= highest[:, None]
        np.exp(logits, logits)
        found[step, :count] = np.log(logits.sum(axis=1)) + (highest - of_target)
    return found, state


def _padded(weights: Weights) -> Weights:
    """The weights with symbols of probability 0 after the others, up to a multiple of OUTPUT_MULTIPLE."""
    more = -len(weights["output.bias"]) % OUTPUT_MULTIPLE
    padded = {
        "output.weight": np.asfortranarray(np.pad(weights["output.weight"], ((0, more), (0, 0)))),
        "output.bias": np.pad(weights["output.bias"], (0, more), constant_values=-np.inf),
    }
    return {**weights, **padded}
