"""The training, validation and test parts of a text: contiguous parts of a stream, or some of its documents each.

Letters: `N` ids of the text, `D` documents.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.environment import cache_folder
from charlstm.errors import TextError
from charlstm.settings import DataSettings
from charlstm.text.corpus import Corpus, cache_errors
from charlstm.text.documents import SCANNED_AT_ONCE, find_bounds
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


class DocumentCounts(NamedTuple):
    """How many documents are in each part."""

    train: int
    val: int
    test: int
    duplicates: int  # that occurred before in the text, dropped or not
    shared: int  # to validate and test on that are among those to train on


def split_corpus(corpus: Corpus, data: DataSettings, *, seed: int) -> tuple[Splits, DocumentCounts | None]:
    """The parts of a run's text by its settings, with the counts of documents; None of a stream.

    seed: by which documents are shuffled. Parts that are no views lie in anonymous temporary files in the cache. Memory
    grows with the number of documents, by some tens of bytes for each while they are split. Raises TextError if there
    is nothing to train on, InputOutputError if the cache cannot be written.
    """
    if corpus.vocab.boundary_id is None:
        return split_ids(corpus.ids, data.split), None
    return split_documents(corpus.ids, corpus.vocab.boundary_id, data, seed=seed, folder=cache_folder())


def split_ids(ids: Ids, fractions: Sequence[float]) -> Splits:
    """The ids cut by (train, val, test) fractions that sum to 1.

    Training takes ⌊n · train⌋ from the start (nanoGPT's cut), testing ⌊n · test⌋ from the end, validation all between;
    without a validation fraction, testing takes the remainder.
    """
    end_of_train, end_of_val = cut_places(len(ids), fractions)
    return Splits(ids[:end_of_train], ids[end_of_train:end_of_val], ids[end_of_val:])


def split_documents(
    ids: Ids, end_id: int, data: DataSettings, *, seed: int, folder: Path
) -> tuple[Splits, DocumentCounts]:
    """Whole documents in each part, by fractions of their number; ids (N,), each document with its end.

    Shuffled, equal documents are in one part; in the order of the text they may not be, and `shared` counts those. If
    duplicates are dropped, the first of equal documents stays.
    """
    bounds = find_bounds(ids, end_id)
    keys = document_keys(ids, bounds, seed)
    ranked = np.sort(keys)
    repeated = ranked[1:] == ranked[:-1]
    duplicates = int(np.count_nonzero(repeated))
    kept = np.ones(len(keys), dtype=bool)
    if data.deduplicate == "drop" and duplicates:
        kept[:] = False
        kept[np.unique(keys, return_index=True)[1]] = True
        ranked = ranked[np.append(True, ~repeated)]
    cuts = cut_places(len(ranked), data.split)
    part = np.full(len(keys), LEFT_OUT, dtype=np.uint8)  # (D,)
    if data.shuffle:
        part[kept] = sum((keys[kept] >= _least_after(ranked, cut)).astype(np.uint8) for cut in cuts)
    else:
        part[kept] = np.repeat(np.arange(3), np.diff([0, *cuts, len(ranked)]))
    shared = 0 if data.shuffle else int(np.isin(keys[(part == 1) | (part == 2)], keys[part == 0]).sum())
    del keys, ranked, repeated
    train, val, test = (int(np.count_nonzero(part == number)) for number in range(LEFT_OUT))
    if not train:
        found = f"{len(part):,} document{'' if len(part) == 1 else 's'}"
        raise TextError(f"the text has {found}, of which data.split leaves none to train on: give more")
    return _write_parts(ids, bounds, part, folder), DocumentCounts(train, val, test, duplicates, shared)


def document_keys(ids: Ids, bounds: NDArray[np.unsignedinteger], seed: int) -> NDArray[np.uint64]:
    """A number for each document (D,) that depends on its ids and the seed alone, as good as drawn at random.

    bounds: (D + 1,) by `find_bounds`. A polynomial in MULTIPLIER modulo 2^64 whose coefficients are random numbers for
    the ids, put through the finalizer of splitmix64 (Steele, Lea & Flood 2014). Among ten million different documents
    two are equal with a chance of 3e-6.
    """
    rng = np.random.default_rng(seed)
    of_id = rng.integers(WORD, size=int(ids.max(initial=0)) + 1, dtype=np.uint64)
    powers, inverses = (_powers(factor) for factor in (MULTIPLIER, INVERSE))
    keys = np.empty(len(bounds) - 1, dtype=np.uint64)
    total, shift = np.zeros(1, np.uint64), np.ones(1, np.uint64)  # up to the last end, and what undoes its place
    running = total
    refuse_changed(ids)
    for first, of_piece in _pieces(ids, bounds):
        piece = ids[first : first + SCANNED_AT_ONCE]
        sums = of_id[piece] * powers[: len(piece)] * np.uint64(pow(MULTIPLIER, first, WORD))
        sums[:1] += running
        np.add.accumulate(sums, out=sums)
        running = sums[-1:].copy()
        ends = bounds[1:][of_piece].astype(np.int64) - first
        totals = np.concatenate([total, sums[ends - 1]])
        shifts = np.concatenate([shift, inverses[ends] * np.uint64(pow(INVERSE, first, WORD))])
        keys[of_piece] = np.diff(totals) * shifts[:-1]
        total, shift = totals[-1:], shifts[-1:]
    refuse_changed(ids)
    for shift_bits, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        keys ^= keys >> np.uint64(shift_bits)
        keys *= np.uint64(factor)
    return keys


def _pieces(ids: Ids, bounds: NDArray[np.unsignedinteger]) -> Iterator[tuple[int, slice]]:
    """Where pieces of the ids begin, and which documents end within each."""
    until = 0
    for first in range(0, len(ids), SCANNED_AT_ONCE):
        since = until
        last = bounds.dtype.type(min(first + SCANNED_AT_ONCE, len(ids)))  # of another type it would be a copy of all
        until = int(np.searchsorted(bounds, last, side="right")) - 1
        yield first, slice(since, until)


def cut_places(count: int, fractions: Sequence[float]) -> tuple[int, int]:
    """Where the training part and the validation part end, of so many ids or documents."""
    train, val, test = fractions
    end_of_train = int(count * train)
    return end_of_train, max(end_of_train, count - int(count * test)) if val else end_of_train


def _least_after(ranked: NDArray[np.uint64], cut: int) -> np.uint64:
    """The least key after a cut, which is moved to the nearer end of the equal keys that it would part."""
    if cut == 0:
        return np.uint64(0)
    if cut < len(ranked):
        since, until = (int(np.searchsorted(ranked, ranked[cut], side=side)) for side in ("left", "right"))
        cut = since if cut - since <= until - cut and since else until
    return ranked[cut] if cut < len(ranked) else np.uint64(WORD - 1)


def _powers(factor: int) -> NDArray[np.uint64]:
    """The powers 0 … SCANNED_AT_ONCE of a number modulo 2^64."""
    factors = np.full(SCANNED_AT_ONCE + 1, factor, dtype=np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


def _write_parts(ids: Ids, bounds: NDArray[np.unsignedinteger], part: NDArray[np.uint8], folder: Path) -> Splits:
    """The ids of the documents of each part, in the order of the text."""
    with ExitStack() as stack:
        stack.enter_context(cache_errors(folder))
        files = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in range(LEFT_OUT)]
        refuse_changed(ids)
        for first, of_piece in _pieces(ids, bounds):
            piece = np.asarray(ids[first : first + SCANNED_AT_ONCE])
            ends = bounds[1:][of_piece].astype(np.int64) - first
            if of_piece.stop < len(part):  # one goes on in the next piece, by no id or more
                ends = np.append(ends, len(piece))
            of_ids = np.repeat(part[of_piece.start : of_piece.stop + 1], np.diff(ends, prepend=0))
            for number, file in enumerate(files):
                file.write(piece[of_ids == number].data)
        refuse_changed(ids)
        parts = []
        for file in files:
            file.flush()
            os.fchmod(file.fileno(), permissions(ids))
            parts.append(map_ids(file, ids.dtype) if file.tell() else np.zeros(0, ids.dtype))
    return Splits(*parts)
