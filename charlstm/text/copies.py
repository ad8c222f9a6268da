"""What of a text stands in another: n-grams, the longest run of symbols, and whole lines.

No index is kept: one pass over the training text finds every n-gram of the other texts, which are small, by hashes of
64 bits, in less time than building one would take. The hash of x₁ … xₙ is Σ r(xₜ)·Mⁿ⁻ᵗ mod 2⁶⁴, with a random number r
of each symbol and an odd M (Karp & Rabin 1987); two grams that differ have the same one with a probability near 2⁻⁶⁰.

Letters: `N` symbols, `n` those of a gram, `D` documents or lines.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from charlstm.text.stored_ids import refuse_changed
from charlstm.text.vocabulary import Ids

GRAMS = (8, 16, 32)
PIECE = 1 << 17  # symbols of the training text that are hashed together: their hashes fit the processor's cache
TABLE_BITS = 22  # of the table that tells quickly of most hashes that they are not searched for
Hashes: TypeAlias = NDArray[np.uint64]
Flags: TypeAlias = NDArray[np.bool_]
_RANDOM = np.random.default_rng(20)
_MULTIPLIER = int(_RANDOM.integers(1 << 63)) * 2 + 1


@dataclass(frozen=True)
class Copies:
    """What of a text stands in the training text. Shares are None where the text has no such gram or document."""

    chars: int
    shares: dict[int, float | None]  # of its n-grams, by n
    longest: int  # symbols of the longest run that is copied
    place: int  # where that begins in the text, from 0
    place_in_training: int
    documents: int  # or lines, that are not empty
    share_of_documents: float | None


def find_copies(training: Ids, texts: Sequence[NDArray[Any]], *, end: int | None, apart: bool) -> list[Copies]:
    """What of each text stands in the training text, all in ids of one vocabulary; −1 is a symbol it does not have.

    end: the id that ends a line or a document, None if nothing does. apart: whether no gram goes on behind an end, as
    between documents. Raises InputOutputError if the training text is changed meanwhile.
    """
    table = _random_table(training, texts)
    queries = [_Query(text.astype(np.int64), table, end if apart else None) for text in texts]
    lines = [_Lookup(_line_hashes(query.ids, table, end)[0]) for query in queries] if end is not None else []
    pieces = [(first, min(first + PIECE, len(training))) for first in range(0, len(training), PIECE)]
    for first, last in pieces:
        piece = table[training[first : last + GRAMS[-1] - 1].astype(np.int64)]
        for n, hashes in _grams(piece, GRAMS):
            for query in queries:
                query.copied[n].mark(hashes[: last - first], first)
    if end is not None:
        for line_hashes in _training_lines(training, table, end):
            for lookup in lines:
                lookup.mark(line_hashes, 0)
    found = []
    for number, query in enumerate(queries):
        longest, place, there = _longest_run(training, table, query)
        document_hashes = lines[number] if lines else None
        found.append(
            Copies(
                len(query.ids),
                {n: query.share(n) for n in GRAMS},
                longest,
                place,
                there,
                len(document_hashes.of) if document_hashes else 0,
                _mean(document_hashes.flags()) if document_hashes else None,
            )
        )
    refuse_changed(training)
    return found


class _Lookup:
    """Hashes that are searched for, and which of them were met where."""

    def __init__(self, of: Hashes) -> None:
        self.of = of  # (K,), may repeat
        self.sorted, self._inverse = np.unique(of, return_inverse=True)
        self.places = np.full(len(self.sorted), -1, dtype=np.int64)
        self._draw_table()

    def mark(self, hashes: Hashes, first: int) -> None:
        """Note which of the hashes, at places from `first` on, are searched for."""
        if not len(self.sorted):
            return
        likely = np.flatnonzero(self._table.take(self._short(hashes)))
        index = np.searchsorted(self.sorted, hashes[likely]).clip(max=len(self.sorted) - 1)
        met = self.sorted[index] == hashes[likely]
        self.places[index[met]] = first + likely[met]
        self._looked_up += len(likely)
        if self._looked_up > 2 * len(self.sorted):  # mostly for those that are known by now
            self._draw_table()

    def flags(self) -> Flags:
        """Whether each hash was met, (K,)."""
        return (self.places >= 0)[self._inverse]

    def place(self, number: int) -> int:
        """Where hash number so much of `of` was met."""
        return int(self.places[self._inverse[number]])

    def _draw_table(self) -> None:
        """Have the table tell of those that were not met yet."""
        self._table = np.zeros(1 << TABLE_BITS, dtype=bool)
        self._table[self._short(self.sorted[self.places < 0])] = True
        self._looked_up = 0

    def _short(self, hashes: Hashes) -> NDArray[np.int64]:
        return (hashes >> np.uint64(64 - TABLE_BITS)).view(np.int64)


class _Query:
    """A text whose copies are searched for, with a lookup of its n-grams by n."""

    def __init__(self, ids: NDArray[np.int64], table: Hashes, divider: int | None) -> None:
        self.ids, self.values = ids, table[ids]
        parts = np.zeros(len(ids), dtype=np.int64) if divider is None else (ids == divider).cumsum()
        self._next_part = np.searchsorted(parts, parts, side="right")  # where each symbol's document ends
        if divider is not None:
            self._next_part[ids == divider] = -1  # no gram begins there
        self.copied = {n: self.lookup(n, self.starts(n)) for n in GRAMS}

    def starts(self, n: int) -> NDArray[np.int64]:
        """Where grams of n symbols begin."""
        return np.flatnonzero(np.arange(len(self.ids)) + n <= self._next_part)

    def lookup(self, n: int, starts: NDArray[np.int64]) -> _Lookup:
        """The hashes of the grams at some places."""
        if not len(starts):
            return _Lookup(np.zeros(0, np.uint64))
        return _Lookup(_grams_of(self.values, n)[starts])

    def share(self, n: int) -> float | None:
        """The share of the n-grams that are copies."""
        return _mean(self.copied[n].flags())


def _longest_run(training: Ids, table: Hashes, query: _Query) -> tuple[int, int, int]:
    """The length of the longest run that is copied, where it begins in the text, and where in the training text.

    Copied n-grams that begin one after another bound its length from above. That length is tried first: mostly it is
    the one. Then the search halves what is between.
    """
    known, best = 0, (0, 0, 0)
    candidates = query.starts(1)
    upper = GRAMS[0] - 1
    for n in GRAMS:
        lookup, starts = query.copied[n], query.starts(n)
        flags = lookup.flags()
        if flags.any():
            first = int(flags.argmax())
            known, best = n, (n, int(starts[first]), lookup.place(first))
            candidates = starts[flags]
            upper = _longest_series(candidates) + n - 1
    upper = min(upper, next((n - 1 for n in GRAMS if n > known), upper)) if known < GRAMS[-1] else upper
    tried = upper
    while known < upper:
        starts = _series_starts(candidates, tried - best[0] + 1) if best[0] else query.starts(tried)
        lookup = query.lookup(tried, starts)
        for first in range(0, len(training), step := max(PIECE, tried)):
            piece = table[training[first : first + step + tried - 1].astype(np.int64)]
            if len(piece) >= tried:
                lookup.mark(_grams_of(piece, tried), first)
        flags = lookup.flags()
        if flags.any():
            at = int(flags.argmax())
            known, best, candidates = tried, (tried, int(starts[at]), lookup.place(at)), starts[flags]
            upper = min(upper, _longest_series(candidates) + tried - 1)
            tried = upper if known < upper else known
        else:
            upper = tried - 1
        tried = (known + upper + 1) // 2
    return best


def _longest_series(places: NDArray[np.int64]) -> int:
    """How many of the ascending places follow one another at most."""
    breaks = np.flatnonzero(np.diff(places) != 1)
    return int(np.diff(np.concatenate([[-1], breaks, [len(places) - 1]])).max())


def _series_starts(places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The places at which `count` of the ascending places begin that follow one another."""
    starts = places[: len(places) - count + 1]
    found: NDArray[np.int64] = starts[places[count - 1 :] - starts == count - 1]
    return found


def _random_table(training: Ids, texts: Sequence[NDArray[Any]]) -> Hashes:
    """A random number of every id; the last is that of −1."""
    size = int(max([int(np.iinfo(np.uint8).max), *(int(part.max(initial=0)) for part in (training, *texts))])) + 2
    return np.random.default_rng(7).integers(1 << 64, size=size, dtype=np.uint64)


def _power(n: int) -> np.uint64:
    """Mⁿ."""
    return np.uint64(pow(_MULTIPLIER, n, 1 << 64))


def _grams(values: Hashes, sizes: Sequence[int]) -> Iterator[tuple[int, Hashes]]:
    """The hashes of all grams of some sizes, powers of two in ascending order, by doubling."""
    hashes, n = values, 1
    while len(hashes) > n and n < sizes[-1]:
        hashes = hashes[:-n] * _power(n) + hashes[n:]
        n *= 2
        if n in sizes:
            yield n, hashes


def _grams_of(values: Hashes, n: int) -> Hashes:
    """The hashes of all grams of n symbols: of the sizes that add up to n, one after another."""
    count = len(values) - n + 1
    found, done = np.zeros(count, np.uint64), 0
    hashes, size = values, 1
    while True:
        if n & size:
            found = found * _power(size) + hashes[done : done + count]
            done += size
        if done == n:
            return found
        hashes = hashes[:-size] * _power(size) + hashes[size:]
        size *= 2


def _line_hashes(ids: NDArray[np.int64], table: Hashes, end: int) -> tuple[Hashes, int]:
    """The hashes of the lines of ids that are not empty, the last with or without its end, and where that begins."""
    ends = np.flatnonzero(ids == end)
    starts, stops = np.concatenate([[0], ends + 1]), np.concatenate([ends, [len(ids)]])
    last = int(starts[-1])
    some = starts < stops
    starts, lengths = starts[some], (stops - starts)[some]
    if not len(starts):
        return np.zeros(0, np.uint64), last
    inside = np.ones(len(ids), dtype=bool)
    inside[ends] = False
    place = np.arange(int(lengths.sum())) - np.repeat(lengths.cumsum() - lengths, lengths)
    factors = np.full(int(lengths.max()), _MULTIPLIER, dtype=np.uint64)
    factors[0] = 1
    terms = table[ids[inside]] * np.multiply.accumulate(factors)[place]
    sums = np.add.reduceat(terms, lengths.cumsum() - lengths)
    return sums * np.uint64(_MULTIPLIER) + table[lengths % len(table)], last


def _training_lines(training: Ids, table: Hashes, end: int) -> Iterator[Hashes]:
    """The hashes of the training text's lines, piece by piece."""
    first, size = 0, PIECE
    while first < len(training):
        piece = training[first : first + size].astype(np.int64)
        whole = first + len(piece) == len(training)
        hashes, last = _line_hashes(piece, table, end)
        if not whole:
            hashes = hashes[: len(hashes) - (last < len(piece))]
        yield hashes
        size = PIECE if last else 2 * size  # a line that is longer
        first = len(training) if whole else first + last


def _mean(flags: Flags) -> float | None:
    return float(flags.mean()) if len(flags) else None
