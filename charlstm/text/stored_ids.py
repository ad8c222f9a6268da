"""Ids in a file, memory-mapped: who may have written it, and whether it is still as it was.

A file that is cut short under a memory map kills the process at the next look (SIGBUS), and one that is overwritten
gives other ids. So whoever reads a batch asks before and after whether the file has changed.
"""

import io
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import InputOutputError


class StoredIds(np.memmap[Any, Any]):
    """Ids (N,) that know their file, as do their slices; what is computed from them is in memory, and never changes."""

    file: "_File | None"

    def __array_finalize__(self, source: object) -> None:
        """Called by NumPy for each new array."""
        super().__array_finalize__(source)
        self.file = getattr(source, "file", None)


class _File:
    """An open file as it was at first."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = os.dup(file.fileno())
        self._first = self._written()

    def __del__(self) -> None:
        os.close(self._descriptor)

    @property
    def mode(self) -> int:
        return os.fstat(self._descriptor).st_mode

    def is_as_it_was(self) -> bool:
        return self._written() == self._first

    def _written(self) -> tuple[int, int]:
        found = os.fstat(self._descriptor)
        return found.st_size, found.st_mtime_ns


def map_ids(file: BinaryIO, dtype: np.dtype[Any]) -> StoredIds:
    """Map a file of ids, which may then be closed and removed. Raises OSError, ValueError if it is empty."""
    ids = np.memmap(file, dtype=dtype, mode="r").view(StoredIds)
    ids.file = _File(file)
    return ids


def refuse_changed(ids: NDArray[Any]) -> None:
    """Raise InputOutputError if the file of the ids has changed since they were mapped."""
    if isinstance(ids, StoredIds) and ids.file is not None and not ids.file.is_as_it_was():
        raise InputOutputError(
            "the encoded text in the cache was changed by another program while it was being read: "
            "leave the cache alone, and start this again (a training run goes on from its last save by --resume)"
        )


def permissions(ids: NDArray[Any]) -> int:
    """Who may read and write what is made from the ids: as their text; anyone for ids that were never in a file."""
    if not isinstance(ids, StoredIds) or ids.file is None:
        return 0o666
    return 0o600 | ids.file.mode & 0o066


def open_own(path: Path) -> io.BufferedReader:
    """Open a file that nobody but this user, or root, can have written. Raises OSError for any other."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO is not waited for
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        os.close(handle)
        raise PermissionError(f"{path} may have been written by somebody else")
    return open(handle, "rb")
