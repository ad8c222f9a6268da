"""How every command talks: data to stdout, talk to stderr, mistakes as one sentence with their exit code."""

import errno
import functools
import os
import sys
from collections.abc import Callable
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

    A closed pipe ends it without a word, a bug with its traceback.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CharLSTMError as mistake:
            say(f"charlstm: {mistake}")
            raise SystemExit(mistake.exit_code) from None
        except BrokenPipeError:
            _forget_stdout()
            raise SystemExit(BROKEN_PIPE_EXIT_CODE) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    return wrapped


def say(line: str) -> None:
    """Print a line of talk to stderr, whatever the locale; if nobody can hear it, go on."""
    try:
        sys.stderr.buffer.write(line.encode("utf-8", "backslashreplace") + b"\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # full, closed, or absent
        pass


def read_input(file: str) -> bytes:
    """The whole content of a file, of stdin for "-". Raises TextError if it cannot be read."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "it is closed"
        raise TextError(f"could not read {'standard input' if file == '-' else file}: {reason}") from None


def write(data: bytes) -> None:
    """Write data to stdout at once. Raises BrokenPipeError if its reader is gone, InputOutputError if it is full."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError, AttributeError) as error:
        _forget_stdout()
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise BrokenPipeError from None
        reason = error.strerror if isinstance(error, OSError) else "it is closed"
        raise InputOutputError(f"could not write to standard output: {reason}") from None


def write_line(line: str) -> None:
    """Write one line of text to stdout as UTF-8, whatever the locale."""
    write(line.encode("utf-8", "surrogateescape") + b"\n")


def _forget_stdout() -> None:
    """Have the interpreter's last flush go nowhere instead of failing again."""
    if sys.stdout is None:
        return
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError):
        pass
