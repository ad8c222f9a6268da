"""A loop of prompts: each is answered by a text, as it is made."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from charlstm.cli.terminal import print_diagnostic, write
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
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    number = 0
    try:
        while True:
            try:
                line = input(PROMPT if typed else "")
                answer(line.encode("utf-8", "surrogateescape"), number)
            except EOFError:
                break
            except KeyboardInterrupt:
                write(b"\n")
            except TextError as error:
                print_diagnostic(f"charlstm: {error}")
            number += 1
    finally:
        signal.signal(signal.SIGINT, before)
    if typed:
        write(b"\n")
