"""Signals that ask a training to stop: noted when they come, acted on between two steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from charlstm.cli.terminal import say


@dataclass
class StopRequest:
    """The signal that asked for the end, None while none did."""

    signal_number: int | None = None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within, SIGINT, SIGTERM and SIGUSR1 are noted; a second SIGINT ends the program at once.

    A signal that the parent process set to be ignored (as `nohup` does) stays ignored.
    """
    request = StopRequest()

    def note(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and request.signal_number is not None:
            raise KeyboardInterrupt
        if request.signal_number is None:
            say(f"{signal.Signals(number).name}: finishing this step and saving …")
            request.signal_number = number

    watched = [number for number in _WATCHED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
