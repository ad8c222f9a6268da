"""The exact set of a training text's documents, or lines, on disk: a hash of 128 bits each, sorted and memory-mapped.

Letters: `N` documents.
"""

from collections.abc import Iterator
from hashlib import blake2b, sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlstm.files import atomic_file
from charlstm.text.documents import find_bounds
from charlstm.text.stored_ids import open_own, permissions
from charlstm.text.vocabulary import Ids

HASH_BYTES = 16  # two of a billion documents have the same one with a probability of 1e-21
CHECKSUM_BYTES = 32


class KnownDocuments:
    """A set of documents, which are ids without their end symbol."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        """hashes: (2, N), the halves of each; sorted by the first, then by the second."""
        self.hashes = hashes

    def __len__(self) -> int:
        return int(self.hashes.shape[1])

    def __contains__(self, ids: Ids) -> bool:
        """ids: in the type of the vocabulary's ids (`Vocab.id_dtype`)."""
        first, second = np.frombuffer(_hash(ids), dtype="<u8")
        begin = np.searchsorted(self.hashes[0], first, "left")
        end = np.searchsorted(self.hashes[0], first, "right")
        return bool((self.hashes[1, begin:end] == second).any())


def open_known(path: Path) -> KnownDocuments | None:
    """The set that `write_known` wrote; None if there is none, or a damaged one."""
    try:
        with open_own(path) as file:
            checksum = file.read(CHECKSUM_BYTES)
            digest = sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
            if digest.digest() != checksum:
                return None
            if (count := (file.tell() - CHECKSUM_BYTES) // HASH_BYTES) == 0:
                return KnownDocuments(np.zeros((2, 0), dtype=np.uint64))
            return KnownDocuments(np.memmap(file, "<u8", "r", CHECKSUM_BYTES, (2, count)))
    except (OSError, ValueError):
        return None


def write_known(path: Path, ids: Ids, end: int) -> KnownDocuments:
    """Write the set of the documents in a text's ids (N,), each with its end symbol, readable by who may read the text.

    What follows the last end symbol is a document too. Raises OSError.
    """
    joined = b"".join(_hash(one) for one in _documents(ids, end))
    halves = np.frombuffer(joined, dtype="<u8").reshape(-1, 2)
    hashes = np.ascontiguousarray(halves[np.lexsort((halves[:, 1], halves[:, 0]))].T)
    with atomic_file(path, mode=permissions(ids)) as file:
        file.write(sha256(hashes.tobytes()).digest())
        file.write(hashes.data if hashes.size else b"")
    return KnownDocuments(hashes)


def _documents(ids: Ids, end: int) -> Iterator[Ids]:
    bounds = find_bounds(ids, end)
    for begin, after in pairwise(bounds):
        yield ids[begin : after - 1]
    if bounds[-1] < len(ids):
        yield ids[bounds[-1] :]


def _hash(ids: Ids) -> bytes:
    return blake2b(np.ascontiguousarray(ids).data if len(ids) else b"", digest_size=HASH_BYTES).digest()
