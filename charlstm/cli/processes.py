"""`charlstm train --processes`: this process forks the others on its machine, tells of them, and outlives them."""

import os
import signal
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial

from charlstm.cli.terminal import report_errors
from charlstm.environment import ProcessPlace
from charlstm.errors import CharLSTMError, InputOutputError, ProcessLostError, ToldElsewhereError
from charlstm.machine import Meeting

LONGEST_END_SECONDS, LONGEST_LOSS_SECONDS = 10.0, 1.0  # that the others have, once this one is done or has lost one
LOST = 75  # exit code, to rank 0 alone, of a process that ends because it has lost another
BETWEEN_LOOKS_SECONDS = 0.01


def train_in_processes(count: int, train: Callable[[ProcessPlace, Meeting], None]) -> None:
    """Call `train` in as many processes, of which this is rank 0; the others end with it, and it soon after they do.

    Called before anything is computed, as only then a process can be forked. Raises what `train` does; instead of
    ProcessLostError, what has become of the process that was lost.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    lifeline, held = os.pipe()  # which the system closes however this process ends
    others: dict[int, int] = {}  # ranks by process, of those that have not ended
    codes: dict[int, int] = {}  # exit codes by rank, of those that have; negative for a signal
    for rank in range(1, count):
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of threads that wait for work
            try:
                process = os.fork()
            except OSError as error:
                raise InputOutputError(f"could not start process {rank} of {count}: {error.strerror}") from None
        if process == 0:
            listening.close()
            os.close(held)
            place = ProcessPlace(rank, count, rank, count)
            os._exit(_exit_code(partial(train, place, Meeting(port)), lifeline))
        others[process] = rank
    os.close(lifeline)

    def others_live() -> bool:
        _note_ended(others, codes)
        return not codes

    try:
        train(ProcessPlace(0, count, 0, count), Meeting(port, listening, others_live))
        _wait(others, codes, LONGEST_END_SECONDS)
    except ProcessLostError as error:
        _wait(others, codes, LONGEST_LOSS_SECONDS)
        raise _reason(error, codes, count) from None
    finally:
        os.close(held)
        _wait(others, codes, LONGEST_LOSS_SECONDS)
        for process in others:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _exit_code(train: Callable[[], None], lifeline: int) -> int:
    """Train as one of the others, which read no input and tell of nothing but their own errors."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def end_with_first() -> None:
        os.read(lifeline, 1)
        os._exit(LOST)

    threading.Thread(target=end_with_first, daemon=True).start()

    @report_errors
    def follow() -> None:
        try:
            train()
        except ProcessLostError:
            raise SystemExit(LOST) from None

    try:
        follow()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _note_ended(others: dict[int, int], codes: dict[int, int]) -> None:
    """Move those that have ended from the one to the other."""
    for process, rank in list(others.items()):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            codes[rank] = os.waitstatus_to_exitcode(status)
            del others[process]


def _wait(others: dict[int, int], codes: dict[int, int], seconds: float) -> None:
    """Wait until the others have ended, at most so long."""
    until = time.monotonic() + seconds
    while others and time.monotonic() < until:
        _note_ended(others, codes)
        time.sleep(BETWEEN_LOOKS_SECONDS)


def _reason(lost: ProcessLostError, codes: dict[int, int], count: int) -> CharLSTMError:
    """Why a process was lost."""
    for rank, code in codes.items():
        if code < 0:
            name = signal.Signals(-code).name
            return InputOutputError(
                f"process {rank} of {count} was ended by {name}; what was saved is whole: if the run had begun, "
                "go on with --resume"
            )
        if code not in (0, LOST):
            return ToldElsewhereError(lost, exit_code=code)
    return lost
