"""A loop of prompts: each is answered by a text, as it is made."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from charlstm.cli.terminal import MAX_INPUT_BYTES, print_diagnostic, write
from charlstm.errors import TextError

PROMPT = "> "


def answer_prompts(answer: Callable[[bytes, int], None], *, quiet: bool) -> None:
    """Read a line, have it answered, and so on until the input ends.

    answer: called with the prompt and its number from 0. Ctrl-C stops one answer or empties the line that is being
    typed. On a terminal the line can be edited and earlier ones are recalled; from a pipe each line is a prompt.
    """
    if sys.stdin is None:
        return
    typed = sys.stdin.isatty() and sys.stdout.isatty()
    if typed:
        with suppress(ImportError):
            import readline  # noqa: F401 - whose presence gives `input` its editing
        if not quiet:
            print_diagnostic("each line begins a text of its own; Ctrl-C stops a text, Ctrl-D ends")
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    listening = False  # a key that is pressed twice stops one answer, and not the session

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal listening
        if listening:
            listening = False
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    refused = 0
    try:
        for number in count():
            try:
                listening = True
                answer(input(PROMPT).encode("utf-8", "surrogateescape") if typed else _read_line(), number)
                listening = False
            except EOFError:
                break
            except KeyboardInterrupt:
                write(b"\n")
            except TextError as error:
                listening = False
                refused += 1
                print_diagnostic(f"charlstm: {error}")
    finally:
        signal.signal(signal.SIGINT, before)
    if typed:
        write(b"\n")
    elif refused:
        raise TextError(f"{refused} of the prompts could not be read, and have no answer: correct them")


def _read_line() -> bytes:
    """The next line of a pipe. Raises EOFError at its end, TextError for a line that is none."""
    line = sys.stdin.buffer.readline(MAX_INPUT_BYTES + 1)
    if not line:
        raise EOFError
    if len(line) > MAX_INPUT_BYTES:
        while line and not line.endswith(b"\n"):
            line = sys.stdin.buffer.readline(MAX_INPUT_BYTES)
        raise TextError(f"the prompt is longer than {MAX_INPUT_BYTES:,} bytes: give a shorter one")
    return line.removesuffix(b"\n")
