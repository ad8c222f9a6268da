"""Signals that ask a training run to stop: noted when they come, acted on between two steps."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

INTERRUPTED_EXIT_CODE = 128 + signal.SIGINT


@dataclass
class StopRequest:
    """The signal that asked for the end, None while none did."""

    signal_number: int | None = None


@contextmanager
def stop_requests(*, quiet: bool) -> Iterator[StopRequest]:
    """Within, SIGINT, SIGTERM, SIGHUP and SIGUSR1 are noted, and reported unless `quiet`; a second SIGINT ends at once.

    A signal that is ignored stays ignored.
    """
    request = StopRequest()

    def note(number: int, _frame: FrameType | None) -> None:
        if request.signal_number is None:
            request.signal_number = number
            if not quiet:
                _print_now(f"{signal.Signals(number).name}: finishing this step and saving …")
        elif number == signal.SIGINT:
            os._exit(INTERRUPTED_EXIT_CODE)

    watched = [number for number in _WATCHED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def _print_now(line: str) -> None:
    """Print a line from within a signal handler, where the stream's own buffer may be in use."""
    with suppress(OSError):
        below_the_bar = "\n" if os.isatty(2) else ""
        os.write(2, f"{below_the_bar}{line}\n".encode())
