"""The training, validation and test parts of a text: contiguous parts of a stream, or some of its documents each.

Letters: `N` ids of the text, `D` documents.
"""

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.environment import cache_folder
from charlstm.errors import TextError
from charlstm.settings import DataSettings
from charlstm.text.corpus import Corpus, cache_errors
from charlstm.text.documents import SCANNED_AT_ONCE, find_ends
from charlstm.text.stored_ids import map_ids, permissions, refuse_changed
from charlstm.text.vocabulary import Ids

WORD = 2**64
MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
INVERSE = pow(MULTIPLIER, -1, WORD)
LEFT_OUT = 3  # the part of what is in none


class Splits(NamedTuple):
    """The ids of each part: views of those of a stream, in this order in the text; of documents each with its end."""

    train: Ids
    val: Ids
    test: Ids
    documents: tuple[int, int, int] | None = None  # in each part; None of a stream
    duplicates: int = 0  # documents that occurred before
    shared: int = 0  # documents to validate and test on that are among those to train on


def split_corpus(corpus: Corpus, data: DataSettings, *, seed: int) -> Splits:
    """The parts of a run's text by its settings; the seed is for documents that are shuffled.

    Those parts that are no views lie in anonymous temporary files in the cache. Memory grows with the number of
    documents, by some tens of bytes for each while they are split. Raises TextError if there is nothing to train on,
    InputOutputError if the cache cannot be written.
    """
    if corpus.vocab.boundary_id is None:
        return split_ids(corpus.ids, data.split)
    return split_documents(corpus.ids, corpus.vocab.boundary_id, data, seed=seed, folder=cache_folder())


def split_ids(ids: Ids, fractions: Sequence[float]) -> Splits:
    """The ids cut by (train, val, test) fractions that sum to 1.

    Training takes ⌊n · train⌋ from the start (nanoGPT's cut), testing ⌊n · test⌋ from the end, validation all between;
    without a validation fraction, testing takes the remainder.
    """
    end_of_train, end_of_val = _cuts(len(ids), fractions)
    return Splits(ids[:end_of_train], ids[end_of_train:end_of_val], ids[end_of_val:])


def split_documents(ids: Ids, end_id: int, data: DataSettings, *, seed: int, folder: Path) -> Splits:
    """Whole documents in each part, by fractions of their number; ids (N,), each document with its end.

    Shuffled, equal documents are in one part; in the order of the text they may not be, and `shared` counts those. If
    duplicates are dropped, the first of equal documents stays.
    """
    ends = find_ends(ids, end_id)
    keys = document_keys(ids, ends, seed)
    distinct, firsts = np.unique(keys, return_index=True)
    part = np.full(len(ends), LEFT_OUT, dtype=np.uint8)  # (D,)
    kept = np.sort(firsts) if data.deduplicate == "drop" else np.arange(len(ends))
    if data.shuffle:
        ranked = distinct if data.deduplicate == "drop" else np.sort(keys)
        bounds = [_between(ranked, cut) for cut in _cuts(len(kept), data.split)]
        part[kept] = sum((keys[kept] >= bound).astype(np.uint8) for bound in bounds)
    else:
        part[kept] = np.searchsorted(_cuts(len(kept), data.split), np.arange(len(kept)), side="right")
    counts = np.bincount(part, minlength=LEFT_OUT + 1)
    if not counts[0]:
        raise TextError(
            f"{len(kept):,} documents leave none to train on (data.split): give more, or a larger fraction to train on"
        )
    shared = int(np.isin(keys[(part == 1) | (part == 2)], keys[part == 0]).sum())
    parts = _write_parts(ids, ends, part, folder)
    train, val, test = (int(count) for count in counts[:LEFT_OUT])
    return Splits(*parts, (train, val, test), len(ends) - len(distinct), shared)


def document_keys(ids: Ids, ends: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A number for each document (D,) that depends on its ids and the seed alone, as good as drawn at random.

    A polynomial in MULTIPLIER modulo 2^64 whose coefficients are random numbers for the ids, put through the finalizer
    of splitmix64 (Steele, Lea & Flood 2014). Two of ten million different documents are equal with a chance of 3e-6.
    """
    rng = np.random.default_rng(seed)
    of_id = rng.integers(WORD, size=int(ids.max(initial=0)) + 1, dtype=np.uint64)
    powers, inverses = (_powers(factor) for factor in (MULTIPLIER, INVERSE))
    keys = np.empty(len(ends), dtype=np.uint64)
    total, shift = np.zeros(1, np.uint64), np.ones(1, np.uint64)  # up to the last end; undoes the place after it
    running = total
    refuse_changed(ids)
    for first in range(0, len(ids), SCANNED_AT_ONCE):
        piece = ids[first : first + SCANNED_AT_ONCE]
        sums = of_id[piece] * powers[: len(piece)] * np.uint64(pow(MULTIPLIER, first, WORD))
        sums[:1] += running
        np.add.accumulate(sums, out=sums)
        running = sums[-1:].copy()
        of_piece = slice(*np.searchsorted(ends, (first, first + len(piece))))
        places = ends[of_piece] - first
        totals = np.concatenate([total, sums[places]])
        shifts = np.concatenate([shift, inverses[places + 1] * np.uint64(pow(INVERSE, first, WORD))])
        keys[of_piece] = np.diff(totals) * shifts[:-1]
        total, shift = totals[-1:], shifts[-1:]
    refuse_changed(ids)
    return _mix(keys)


def _cuts(count: int, fractions: Sequence[float]) -> tuple[int, int]:
    """Where the training part and the validation part end."""
    train, val, test = fractions
    end_of_train = int(count * train)
    return end_of_train, count - int(count * test) if val else end_of_train


def _between(ranked: NDArray[np.uint64], cut: int) -> np.uint64:
    """The least key after a cut, which is moved to the nearer end of the equal keys that it would part."""
    if cut in (0, len(ranked)):
        return np.uint64(0 if cut == 0 else WORD - 1)
    since, until = (int(np.searchsorted(ranked, ranked[cut], side=side)) for side in ("left", "right"))
    nearer = since if cut - since <= until - cut and since else until
    return ranked[nearer] if nearer < len(ranked) else np.uint64(WORD - 1)


def _powers(factor: int) -> NDArray[np.uint64]:
    """The powers 0 … SCANNED_AT_ONCE of a number modulo 2^64."""
    factors = np.full(SCANNED_AT_ONCE + 1, factor, dtype=np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


def _mix(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    return keys ^ (keys >> np.uint64(31))


def _write_parts(ids: Ids, ends: NDArray[np.int64], part: NDArray[np.uint8], folder: Path) -> tuple[Ids, Ids, Ids]:
    """The ids of the documents of each part, in the order of the text."""
    with ExitStack() as stack:
        stack.enter_context(cache_errors(folder))
        files = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in range(LEFT_OUT)]
        refuse_changed(ids)
        for first in range(0, len(ids), SCANNED_AT_ONCE):
            piece = np.asarray(ids[first : first + SCANNED_AT_ONCE])
            since, last = np.searchsorted(ends, (first, first + len(piece) - 1))
            chars = np.diff(np.minimum(ends[since : last + 1] + 1 - first, len(piece)), prepend=0)
            of_ids = np.repeat(part[since : last + 1], chars)
            for number, file in enumerate(files):
                file.write(piece[of_ids == number].data)
        refuse_changed(ids)
        parts = []
        for file in files:
            file.flush()
            os.fchmod(file.fileno(), permissions(ids))
            parts.append(map_ids(file, ids.dtype) if file.tell() else np.zeros(0, ids.dtype))
    return parts[0], parts[1], parts[2]
