"""Standard streams of every command: data to stdout, diagnostics to stderr, user errors with their exit code.

What came from a file may hold anything: here, where it is written, control characters lose their effect on a terminal.
"""

import codecs
import errno
import functools
import io
import math
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeAlias

import typer

from charlstm.errors import (
    BROKEN_PIPE_EXIT_CODE,
    CharLSTMError,
    DiskWarning,
    InputOutputError,
    SettingsError,
    TextError,
    ToldElsewhereError,
    is_out_of_memory,
)

P = ParamSpec("P")

MAX_INPUT_BYTES = 100_000_000  # of a prompt or a text to fill, which are held in memory
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # of a terminal, of lines, of the direction

RunOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--run", metavar="RUN", help="Run folder; else the one in CHARLSTM_RUN, else the newest."),
]

TrustOption: TypeAlias = Annotated[
    bool, typer.Option("--trust-sources", help="Read the sources of a run whose text is not in your cache.")
]
ShardOption: TypeAlias = Annotated[
    str, typer.Option("--shard", metavar="I/N", help="Only part I of N: items I, I + N, I + 2 N, … counted from 1.")
]
RawOption: TypeAlias = Annotated[
    bool, typer.Option("--raw", help="Give a terminal control characters as they are, not as \\x1b.")
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
        except (MemoryError, RuntimeError, ImportError, OSError) as error:
            if is_out_of_memory(error):
                _end(InputOutputError("there is not enough memory for this: give less text, or use a smaller model"))
            if not isinstance(error, OSError):
                raise
            what = f"read or write {error.filename}" if error.filename else "write to standard output"
            forget_stdout()
            _end(InputOutputError(f"could not {what}: {_reason(error)}"))

    return wrapped


def parse_shard(asked: str) -> slice:
    """Which items of a list --shard asks for. Raises SettingsError."""
    part, _, parts = asked.partition("/")
    numbers = [int(number) for number in (part, parts) if number.isascii() and number.isdecimal() and len(number) < 10]
    if len(numbers) < 2 or not 1 <= numbers[0] <= numbers[1]:
        raise SettingsError(f"--shard is {asked!r}, but must be a part of so many, from 1/8 to 8/8 for eight")
    return slice(numbers[0] - 1, None, numbers[1])


def printable(text: str, *, keep: str = "") -> str:
    """The text with control characters, but for those in `keep`, and bytes that are no UTF-8 as escapes.

    What the locale could not decode is decoded as UTF-8.
    """
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        raw = text.encode("utf-8", "backslashreplace")
    shown = raw.decode("utf-8", "backslashreplace")
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], shown)


def print_diagnostic(line: str, *, keep: str = "") -> None:
    """Print a line to stderr as UTF-8, whatever the locale, with the control characters in `keep` alone.

    Nothing happens if stderr is full or closed.
    """
    with suppress(OSError):
        sys.stderr.buffer.write(printable(line, keep=keep).encode() + b"\n")
        sys.stderr.flush()


def is_typed(source: str) -> bool:
    """Whether a source is standard input, and that a terminal."""
    return source == "-" and sys.stdin is not None and sys.stdin.isatty()


def read_input(file: str) -> bytes:
    """The whole content of a file, of stdin for "-". Raises TextError if it cannot be read or is too long."""
    from charlstm.text import open_unpacked

    name = "standard input" if file == "-" else file
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else open_unpacked(Path(file)) as stream:
            data = stream.read(MAX_INPUT_BYTES + 1)
    except (OSError, ValueError, AttributeError) as error:  # ValueError: a NUL in the name
        raise TextError(f"could not read {name}: {_reason(error)}") from None
    if len(data) > MAX_INPUT_BYTES:
        raise TextError(f"{name} is longer than {MAX_INPUT_BYTES:,} bytes: give a part of it")
    return data


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
    """Write one line of text to stdout as UTF-8, whatever the locale; on a terminal made printable."""
    shown = printable(line, keep="\n\t") if sys.stdout.isatty() else line
    try:
        data = shown.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, which JSON writes in the same way
        data = shown.encode("utf-8", "backslashreplace")
    write(data + b"\n")


def text_writer(*, raw: bool) -> Callable[[bytes], None]:
    """The function that writes a text to stdout piece by piece: as it is, but printable on a terminal unless `raw`."""
    if raw or not sys.stdout.isatty():
        return write
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")  # a piece may end within a character
    return lambda piece: write(printable(decoder.decode(piece), keep="\n\t").encode())


def write_json(fields: dict[str, Any]) -> None:
    """Write one line of JSON to stdout, null for what JSON has no number for, and say so on stderr."""
    import json

    infinite = [name for name, value in fields.items() if isinstance(value, float) and not math.isfinite(value)]
    if infinite:
        print_diagnostic(f"{', '.join(infinite)}: no finite number, so null; the model has diverged")
    write_line(json.dumps({**fields, **dict.fromkeys(infinite)}, ensure_ascii=False, allow_nan=False))


def base64_of(text: bytes, unit: str) -> dict[str, str]:
    """A field that has all of a text of bytes, which need not be whole in a string; none for one of characters."""
    if unit != "byte":
        return {}
    from base64 import b64encode

    return {"base64": b64encode(text).decode()}


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
    show = warnings.showwarning

    def show_warning(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if issubclass(category, DiskWarning):
            print_diagnostic(f"charlstm: {message}")
        else:
            show(message, category, *args, **kwargs)

    warnings.showwarning = show_warning


def forget_stdout() -> None:
    """Have the interpreter's last flush go nowhere instead of failing again."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(error: CharLSTMError) -> None:
    if not isinstance(error, ToldElsewhereError):
        print_diagnostic(f"charlstm: {' '.join(str(error).splitlines())}")
    raise SystemExit(error.exit_code) from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno != errno.EBADF:
        return error.strerror or str(error)
    return str(error) if isinstance(error, ValueError) else "it is closed"
