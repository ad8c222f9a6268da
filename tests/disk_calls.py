"""The calls by which a program changes files, counted, and failing or killing the process at one of them.

What strace's injection does to real system calls is done here to Python's, wherever strace is not to be had; and a
write stops halfway, as on a disk that fills up.
"""

import builtins
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Killed(BaseException):
    """The process ends here: nothing catches it."""


CALLS = ("open", "fsync", "mkdir", "rename", "replace", "unlink", "rmdir", "truncate", "ftruncate")


class DiskCalls:
    """The calls below a folder, in order; the one numbered `at` (from 1), and with `lasting` each later one, fails.

    `error` is an errno, or what to raise, or None for SIGKILL. `made` counts the calls, `refused` those that failed.
    """

    def __init__(self, root: Path, *, at: int, error: int | type[Killed] | None, lasting: bool = False) -> None:
        self.root = os.fspath(root)
        self.at = at
        self.error = error
        self.lasting = lasting
        self.made = 0
        self.refused = 0

    def chosen(self) -> bool:
        """Count a call; whether it is one to fail."""
        self.made += 1
        return self.made == self.at or (self.lasting and self.made > self.at)

    def fail(self, name: object) -> BaseException:
        """The failure of a call that was chosen."""
        if self.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        self.refused += 1
        if isinstance(self.error, int):
            return OSError(self.error, os.strerror(self.error), str(name))
        return Killed()

    def is_inside(self, path: object) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(self.root)


@contextmanager
def failing(calls: DiskCalls) -> Iterator[None]:
    """Within, the calls of this process below the folder are counted and fail as `calls` says."""
    before = {name: getattr(os, name) for name in CALLS}
    for name, call in before.items():
        setattr(os, name, _guarded(call, calls))
    real_open = builtins.open
    builtins.open = io.open = _guarded_open(real_open, calls)  # type: ignore[assignment]
    try:
        yield
    finally:
        builtins.open = io.open = real_open
        for name, call in before.items():
            setattr(os, name, call)


def _guarded(call: Callable[..., Any], calls: DiskCalls) -> Callable[..., Any]:
    def guarded(target: Any, *args: Any, **kwargs: Any) -> Any:
        counted = isinstance(target, int) or kwargs.get("dir_fd") is not None or calls.is_inside(target)
        if counted and calls.chosen():
            raise calls.fail(target)
        return call(target, *args, **kwargs)

    return guarded


def _guarded_open(real_open: Callable[..., Any], calls: DiskCalls) -> Callable[..., Any]:
    def guarded(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not calls.is_inside(file) or not set(mode) & set("wax+"):
            return real_open(file, mode, *args, **kwargs)
        if calls.chosen():
            raise calls.fail(file)
        return _HalfWriter(real_open(file, mode, *args, **kwargs), calls)

    return guarded


class _HalfWriter:
    """A file whose chosen write takes half of the data, and then fails or, if unbuffered, says how much it took."""

    def __init__(self, file: Any, calls: DiskCalls) -> None:
        self._file = file
        self._calls = calls

    def write(self, data: Any) -> int:
        if not self._calls.chosen():
            return int(self._file.write(data))
        self._file.write(bytes(data)[: len(data) // 2])
        self._file.flush()
        failure = self._calls.fail(self._file.name)
        if isinstance(self._file, io.RawIOBase) and isinstance(failure, OSError):
            return len(data) // 2
        raise failure

    def truncate(self, *args: Any) -> int:
        if self._calls.chosen():
            raise self._calls.fail(self._file.name)
        return int(self._file.truncate(*args))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_HalfWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
