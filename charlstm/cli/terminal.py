"""Standard streams of every command: data to stdout, diagnostics to stderr, user errors with their exit code."""

import errno
import functools
import io
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeAlias

import typer

from charlstm.errors import BROKEN_PIPE_EXIT_CODE, CharLSTMError, InputOutputError, TextError

P = ParamSpec("P")

RunOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--run", metavar="RUN", help="Run folder; else the one in CHARLSTM_RUN, else the newest."),
]


def report_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command so that a user error ends it with one sentence on stderr and its exit code.

    So does an error of the system. A closed pipe ends it silently, a bug with its traceback.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CharLSTMError as error:
            _end(error)
        except BrokenPipeError:
            forget_stdout()
            raise SystemExit(BROKEN_PIPE_EXIT_CODE) from None
        except OSError as error:
            what = f"read or write {error.filename}" if error.filename else "write to standard output"
            forget_stdout()
            _end(InputOutputError(f"could not {what}: {_reason(error)}"))

    return wrapped


def print_diagnostic(line: str) -> None:
    """Print a line to stderr as UTF-8, whatever the locale; nothing happens if it is full or closed."""
    with suppress(OSError):
        sys.stderr.buffer.write(_utf8(line) + b"\n")
        sys.stderr.flush()


def read_input(file: str) -> bytes:
    """The whole content of a file, of stdin for "-". Raises TextError if it cannot be read."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError, AttributeError) as error:  # ValueError: a NUL in the name
        raise TextError(f"could not read {'standard input' if file == '-' else file}: {_reason(error)}") from None


def write(data: bytes) -> None:
    """Write data to stdout at once. Raises BrokenPipeError if its reader is gone, InputOutputError if it is full."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        forget_stdout()
        raise InputOutputError(f"could not write to standard output: {_reason(error)}") from None


def write_line(line: str) -> None:
    """Write one line of text to stdout as UTF-8, whatever the locale."""
    write(line.encode("utf-8", "surrogateescape") + b"\n")


def write_json(fields: dict[str, Any]) -> None:
    """Write one line of JSON to stdout, null for what JSON has no number for, and say so on stderr."""
    import json

    infinite = [name for name, value in fields.items() if isinstance(value, float) and not math.isfinite(value)]
    if infinite:
        print_diagnostic(f"{', '.join(infinite)}: no finite number, so null; the model has diverged")
    write_line(json.dumps({**fields, **dict.fromkeys(infinite)}, ensure_ascii=False, allow_nan=False))


def prepare_streams() -> None:
    """Have stdout and stderr write UTF-8 whatever the locale, and replace one that is closed.

    Otherwise the next file that is opened would take the number of the closed stream, and receive what is written to
    it. Writing to the replacement of stdout fails, as a user who asked for data expects; that of stderr discards.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)  # takes the lowest number, this one
    buffered = io.BufferedWriter(io.FileIO(1, "w", closefd=False))
    sys.stdout = io.TextIOWrapper(buffered, "utf-8", "surrogateescape")
    unbuffered = io.FileIO(2, "w", closefd=False)  # so that what could not be written is not tried again at the end
    sys.stderr = io.TextIOWrapper(unbuffered, "utf-8", "surrogateescape", write_through=True)


def forget_stdout() -> None:
    """Have the interpreter's last flush go nowhere instead of failing again."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _utf8(line: str) -> bytes:
    """UTF-8, with the bytes of file names that are not as they are."""
    try:
        return line.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return line.encode("utf-8", "backslashreplace")


def _end(error: CharLSTMError) -> None:
    print_diagnostic(f"charlstm: {' '.join(str(error).splitlines())}")
    raise SystemExit(error.exit_code) from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno != errno.EBADF:
        return error.strerror or str(error)
    return str(error) if isinstance(error, ValueError) else "it is closed"
