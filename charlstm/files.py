"""Files and folders that stand whole or not at all, also after a power cut; the one writer of run folders."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from charlstm.errors import InputOutputError, RunError

UNFINISHED = ".unfinished-"  # how the name of what is being written begins
REPLACED = f"{UNFINISHED}replaced-"  # and that of a folder whose place is being taken


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that at every moment its old or its new content stands there whole."""
    unfinished = path.with_name(UNFINISHED + path.name)
    _write_flushed(unfinished, data)
    unfinished.replace(path)
    flush(path.parent)


def write_folder(final: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder of files so that it stands under its name whole or not at all."""
    unfinished = final.with_name(UNFINISHED + final.name)
    remove(unfinished)
    unfinished.mkdir()
    for file, data in contents.items():
        _write_flushed(unfinished / file, data)
    flush(unfinished)
    replaced = final.with_name(REPLACED + final.name)
    put_back(replaced)
    if final.exists():  # what was saved here before it was ended or damaged, and is trained anew
        final.rename(replaced)
    try:
        unfinished.rename(final)
    except OSError:
        put_back(replaced)
        raise
    flush(final.parent)
    remove(replaced)


def put_back(replaced: Path) -> None:
    """Undo a replacing that ended between its two renames, or finish one that ended after them."""
    final = replaced.with_name(replaced.name.removeprefix(REPLACED))
    if replaced.exists() and not final.exists():
        replaced.rename(final)
    remove(replaced)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn the system's refusal to write into InputOutputError, one sentence."""
    try:
        yield
    except OSError as error:
        raise InputOutputError(
            f"could not write {what}: {error.strerror or error} ({error.filename or 'no file name'})"
        ) from error


def read_regular(path: Path, max_bytes: int | None = None) -> bytes:
    """The content of a file that may not be longer than is plausible, so that no file fills the memory."""
    try:
        if not path.is_file():  # opening a FIFO would wait for its writer
            raise OSError(None, "it is not there or no regular file")
        size = path.stat().st_size
        if max_bytes is not None and size > max_bytes:
            raise RunError(f"{path} is longer than the {max_bytes:,} bytes that such a file can have in this run")
        with path.open("rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:
        raise RunError(f"could not read {path}: {getattr(error, 'strerror', None) or error}") from None


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_flushed(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush(path: Path) -> None:
    """Have a folder, or a file that was written earlier, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
