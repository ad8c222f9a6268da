"""Atomic files and folders, and bounded reads: the only writer of whole files.

What is written atomically is written beside its place, flushed to the disk and renamed into its place, so that at every
moment, also that of a power cut, the old content or the new one can be read there, complete.
"""

import errno
import fcntl
import os
import shutil
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from charlstm.errors import DiskWarning, InputOutputError, RunError

UNFINISHED = ".unfinished-"  # how the name of what is being written begins
UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK)  # how file systems say that they cannot
REPLACED = f"{UNFINISHED}replaced-"  # and that of a folder whose place is being taken


@contextmanager
def atomic_file(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a file to write into, which takes the place of `path` when the block ends; if it raises, nothing changes.

    mode: its permissions, less the umask. The unfinished file can also be read, and is locked: whoever finds it
    unlocked knows that its writer is gone. Raises OSError.
    """
    unfinished = path.with_name(f"{UNFINISHED}{os.urandom(8).hex()}")
    try:
        with _open_locked(unfinished, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    flush(path.parent)


def _open_locked(path: Path, mode: int) -> BinaryIO:
    """Make a file, where not even a link was, and lock it; one that was taken for abandoned before is made again."""
    while True:
        file = open(path, "xb+", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def write_file(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a file atomically. Raises OSError."""
    with atomic_file(path, mode=mode) as file:
        file.write(data)


def write_folder(final: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder of files atomically, in the place of an older one if there is one. Raises OSError."""
    unfinished = final.with_name(UNFINISHED + final.name)
    remove(unfinished)
    unfinished.mkdir()
    for name, data in contents.items():
        with (unfinished / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    flush(unfinished)
    replaced = final.with_name(REPLACED + final.name)
    end_replacement(replaced)
    if final.exists():
        final.rename(replaced)
    try:
        unfinished.rename(final)
    except OSError:
        end_replacement(replaced)
        raise
    flush(final.parent)
    remove(replaced)


def end_replacement(replaced: Path) -> None:
    """Undo a folder's replacement that was ended between its two renames, or complete one that was ended after them."""
    final = replaced.with_name(replaced.name.removeprefix(REPLACED))
    if replaced.exists() and not final.exists():
        replaced.rename(final)
    remove(replaced)


def remove_abandoned(folder: Path) -> None:
    """Remove the unfinished files in a folder whose writers are gone."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError), open(path, "rb", opener=_open_at_once) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _open_at_once(path: str, flags: int) -> int:
    """Follow no link, and wait for no writer of a FIFO."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; nothing happens if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have a folder, or a file that was written earlier, on the disk; where folders cannot be flushed, warn."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO is not waited for
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED or not path.is_dir():
            raise
        what = "this file system does not flush folders: a power cut may take what was just saved"
        warnings.warn(what, DiskWarning, stacklevel=1)  # from here, so once
    finally:
        os.close(handle)


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`, so that no file fills the memory. Raises RunError."""
    try:
        if not path.is_file():  # opening a FIFO would wait for its writer
            raise OSError(None, "it is not there or no regular file")
        size = path.stat().st_size
        if size > max_bytes:
            raise RunError(f"{path} is longer than the {max_bytes:,} bytes that such a file can have")
        with path.open("rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:
        raise RunError(f"could not read {path}: {getattr(error, 'strerror', None) or error}") from None


@contextmanager
def disk_errors(what: str, *, advice: str = "") -> Iterator[None]:
    """Turn the system's refusal to write into InputOutputError, one sentence that ends with the advice."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise InputOutputError(
            f"could not write {what}: {error.strerror or error}{where}{advice and f'; {advice}'}"
        ) from error
