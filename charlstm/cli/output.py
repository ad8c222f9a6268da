"""Files that an option of a command names."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from charlstm.cli.terminal import print_diagnostic
from charlstm.errors import InputOutputError, SettingsError
from charlstm.files import atomic_file


@contextmanager
def saving(path: Path, *, option: str, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Give a file to write into; it takes the place of `path` atomically when the block ends.

    mode: its permissions, less the umask. What is no regular file (/dev/stdout, a FIFO) is written straight into.
    Raises InputOutputError, naming `option`.
    """
    try:
        special = path.exists() and not path.is_file()
        target = path.resolve()  # through a link, so that it stays one
        with path.open("wb") if special else atomic_file(target, mode=mode) as file:
            yield file
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise InputOutputError(f"{option}: could not write {path}: {reason}") from error


def save(path: Path, data: bytes, *, option: str, about: str, mode: int = 0o666) -> None:
    """Write a whole file as `saving` does, and print what it holds."""
    with saving(path, option=option, mode=mode) as file:
        file.write(data)
    print_diagnostic(f"{path}: {about}")


def plotting(module: str, *, option: str) -> Any:
    """A module of the extra `plot`. Raises SettingsError, which says how to get it, where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise SettingsError(f"{option} needs {name}, which is not installed: pip install matplotlib plotext") from None
