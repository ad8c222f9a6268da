"""How every command talks: data to stdout, talk to stderr, mistakes as one sentence with their exit code."""

import errno
import functools
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, ParamSpec, TypeAlias

import typer

from charlstm.errors import BROKEN_PIPE_EXIT_CODE, CharLSTMError, InputOutputError, TextError

P = ParamSpec("P")

RunOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--run", metavar="RUN", help="Run folder; else the one in CHARLSTM_RUN, else the newest."),
]


def one_sentence(command: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command so that a user's mistake ends it with one sentence on stderr and its exit code.

    So does what the system refuses. A closed pipe ends it without a word, a bug with its traceback.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CharLSTMError as mistake:
            _end(mistake)
        except BrokenPipeError:
            forget_stdout()
            raise SystemExit(BROKEN_PIPE_EXIT_CODE) from None
        except OSError as error:
            what = f"read or write {error.filename}" if error.filename else "write to standard output"
            forget_stdout()
            _end(InputOutputError(f"could not {what}: {_reason(error)}"))

    return wrapped


def say(line: str) -> None:
    """Print a line of talk to stderr, whatever the locale; if nobody can hear it, go on."""
    with suppress(OSError):  # full or closed
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


def prepare_streams() -> None:
    """Have stdout and stderr speak UTF-8 whatever the locale, and give one that is closed a stand-in.

    Otherwise the next file that is opened would take a closed one's number, and receive what is said to it. Writing to
    the stand-in of stdout fails, as a user who asked for data expects; what is said to that of stderr is lost.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)  # takes the lowest number, this one
    buffered = io.BufferedWriter(io.FileIO(1, "w", closefd=False))
    sys.stdout = io.TextIOWrapper(buffered, "utf-8", "surrogateescape")
    unbuffered = io.FileIO(2, "w", closefd=False)  # so that what could not be said is not tried again at the end
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


def _end(mistake: CharLSTMError) -> None:
    say(f"charlstm: {' '.join(str(mistake).splitlines())}")
    raise SystemExit(mistake.exit_code) from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno != errno.EBADF:
        return error.strerror or str(error)
    return str(error) if isinstance(error, ValueError) else "it is closed"
