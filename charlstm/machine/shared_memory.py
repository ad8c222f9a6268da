"""Memory that the processes of one machine share, and a barrier in it.

A message of gloo is there after half a millisecond, and a step has several; a number in shared memory is seen after
some microseconds.
"""

import math
import os
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

MOST_BETWEEN_LOOKS_SECONDS = 1.0  # that count: a process that was stopped meanwhile (Ctrl-Z) has not waited
SPINNING_SECONDS = 0.002  # in which the others mostly come; from then on the core is given up between two looks
BETWEEN_LOOKS_SECONDS = 0.0001


@contextmanager
def offered_memory(size: int) -> Iterator[str]:
    """The path at which other processes find `size` bytes of zeros while it is offered; empty if there is none.

    It is a file without a name, and gone with the last process that has opened it.
    """
    try:
        handle = os.memfd_create("charlstm")
    except (AttributeError, OSError):  # a system that is not Linux
        yield ""
        return
    try:
        os.posix_fallocate(handle, 0, size)
        path = f"/proc/{os.getpid()}/fd/{handle}"
    except OSError:  # no memory left
        path = ""
    try:
        yield path
    finally:
        os.close(handle)


def open_memory(path: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor | None:
    """What is offered at a path, as a tensor; None if this process may not look at the one that offers it."""
    with suppress(RuntimeError):
        return torch.from_file(path, shared=True, size=math.prod(shape), dtype=dtype).view(*shape) if path else None
    return None


class Barrier:
    """Where each process waits until all have come; what they wrote before is then seen by all.

    To look whether the others live lets go of the interpreter's lock and takes it again, which keeps what is written
    and read before it and after it in this order, also on processors that do not by themselves.
    """

    def __init__(self, arrivals: Tensor, rank: int, processes: Sequence[int], *, longest: float) -> None:
        """arrivals: zeros (processes,), shared. processes: their numbers in the system. longest: seconds to wait.

        Raises OSError if one of them may not be watched.
        """
        self._arrivals, self._rank, self._longest = arrivals.numpy(), rank, longest
        self._ends = select.poll()  # not select, which takes no handle above 1,023
        for process in processes:
            self._ends.register(os.pidfd_open(process), select.POLLIN)

    def wait(self) -> None:
        """Return when all have called it as often; RuntimeError if one of them has ended, or does not come."""
        self._ended()
        self._arrivals[self._rank] += 1
        waited, last = 0.0, time.monotonic()
        while True:
            ended = self._ended()
            if self._arrivals.min() >= self._arrivals[self._rank]:
                break
            now = time.monotonic()
            waited, last = waited + min(now - last, MOST_BETWEEN_LOOKS_SECONDS), now
            if ended or waited > self._longest:
                raise RuntimeError("a process has ended, or does not come")
            if waited > SPINNING_SECONDS:
                time.sleep(BETWEEN_LOOKS_SECONDS)
        self._ended()

    def _ended(self) -> bool:
        return bool(self._ends.poll(0))
