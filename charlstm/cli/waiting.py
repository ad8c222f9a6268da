"""A line on a terminal that shows what takes its time, until it is done."""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from charlstm import environment

FIRST_SHOWN_SECONDS = 0.3  # what is quicker needs no line
SECONDS_BETWEEN = 1.0
CLEAR_LINE = "\033[K"


@contextmanager
def working(what: str, done: Callable[[], float] | None = None) -> Iterator[None]:
    """Show what is being done, and for how long, on stderr if that is a terminal; the line goes away at the end.

    done: gives the fraction that is done.
    """
    if not (sys.stderr.isatty() and environment.terminal_redraws()):
        yield
        return
    ended = threading.Event()

    def show() -> None:
        begin = time.monotonic()
        pause = FIRST_SHOWN_SECONDS
        while not ended.wait(pause):
            share = f" {done():.0%}," if done else ""
            seconds = f" …{share} {time.monotonic() - begin:.0f} s"
            width = shutil.get_terminal_size().columns - len(seconds) - 1
            # the cursor goes back to the beginning, so that a message takes the place of this line
            _draw(f"{CLEAR_LINE}{what[:width]}{seconds}\r")
            pause = SECONDS_BETWEEN
        _draw(CLEAR_LINE)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _draw(text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
