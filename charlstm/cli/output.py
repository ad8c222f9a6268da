"""Files that a command makes because an option names them: written whole, over an older one, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from charlstm.errors import InputOutputError, SettingsError


@contextmanager
def saving(path: Path, *, option: str) -> Iterator[BinaryIO]:
    """Give a file to write into; its content takes the place of `path` when all of it is on disk.

    What is no regular file (/dev/stdout, a FIFO) is written straight into. Raises InputOutputError, naming `option`.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        target = path.resolve()  # through a link, so that it stays one
        unfinished = target.with_name(f".unfinished-{secrets.token_hex(4)}-{target.name}")
        try:
            with unfinished.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise InputOutputError(f"{option}: could not write {path}: {reason}") from error


def plotting(module: str, *, option: str) -> Any:
    """A module of the extra `plot`. Raises SettingsError, which says how to get it, where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise SettingsError(f"{option} needs {name}, which is not installed: pip install 'charlstm[plot]'") from None
