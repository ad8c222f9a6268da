"""How the processes of a training run find each other: by a launcher's variables, or at a port of this machine."""

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from charlstm.environment import ProcessPlace
from charlstm.errors import CharLSTMError, ProcessLostError, SettingsError
from charlstm.machine.processes import ALONE, LONGEST_STEP, Processes, lost_processes

T = TypeVar("T")

LONGEST_MEETING = timedelta(minutes=5)  # until all processes are there, which each machine starts by itself
LONGEST_START = timedelta(days=1)  # that others wait for a process which reads and encodes a text
BETWEEN_LOOKS_SECONDS = 0.02  # for what other processes write


@dataclass(frozen=True)
class Meeting:
    """Where processes meet that this program has started on its machine: a port, on which rank 0 listens.

    others_live: asked by rank 0 while it waits.
    """

    port: int
    listening: socket.socket | None = None
    others_live: Callable[[], bool] = lambda: True


@contextmanager
def join_processes(place: ProcessPlace | None, meeting: Meeting | None = None) -> Iterator[Processes]:
    """Meet the other processes of a training run; without a meeting, as the variables of torchrun say.

    Raises ProcessLostError if one does not come, SettingsError if the variables do not say where.
    """
    if place is None or place.size == 1:
        yield ALONE
        return
    others_live = (meeting or Meeting(0)).others_live
    with lost_processes():
        if meeting is None:
            store = _launcher_store(place)
        else:
            handle = None if meeting.listening is None else meeting.listening.detach()
            leads = handle is not None
            store = dist.TCPStore(  # type: ignore[attr-defined]
                "127.0.0.1", meeting.port, None, leads, wait_for_workers=False, master_listen_fd=handle
            )
        store = dist.PrefixStore(_agree_on_attempt(store, place, others_live), store)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"

        def connect() -> Any:
            dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.size, timeout=LONGEST_STEP)
            return dist.new_group(backend="gloo", timeout=LONGEST_START)

        patient = _while_others_live(connect, others_live)
    try:
        yield Processes(place, patient)
    except ProcessLostError:  # which leaving would wait for
        raise
    except CharLSTMError:
        dist.destroy_process_group()  # else its threads, still running at the end, may abort this process
        raise
    dist.destroy_process_group()


def _launcher_store(place: ProcessPlace) -> Any:
    """The store at the address that the launcher's variables have. Raises SettingsError where they have none."""
    try:
        store, _, _ = next(
            dist.rendezvous("env://", place.rank, place.size, timeout=LONGEST_MEETING)  # type: ignore[attr-defined]
        )
    except ValueError as error:  # not there, or no number
        raise SettingsError(
            f"the launcher's variables do not say where the {place.size} processes meet ({error}): start them by "
            "torchrun, or set MASTER_ADDR and MASTER_PORT"
        ) from None
    return store


def _while_others_live(connect: Callable[[], T], others_live: Callable[[], bool]) -> T:
    """What `connect` returns; RuntimeError as soon as another process has ended, for which it would wait on.

    It is called in a thread of its own, so that this one also hears signals.
    """
    found: list[T] = []
    problems: list[BaseException] = []

    def call() -> None:
        try:
            found.append(connect())
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(BETWEEN_LOOKS_SECONDS)
        if thread.is_alive() and not others_live():
            raise RuntimeError("a process has ended")
    for problem in problems:
        raise problem
    return found[0]


def _agree_on_attempt(store: Any, place: ProcessPlace, others_live: Callable[[], bool]) -> str:
    """A name that only those processes know that are alive now.

    A store of torchrun keeps what an earlier attempt, of processes that have failed, has left in it. So rank 0 makes a
    name up, and each of the others asks whether it is that of a process that answers.
    """
    until = time.monotonic() + LONGEST_MEETING.total_seconds()

    def is_there(key: str, seconds: float) -> bool:
        last = min(until, time.monotonic() + seconds)
        while not store.check([key]):  # waiting for it would write of every second that it waits
            if not others_live() or time.monotonic() > last:
                return False
            time.sleep(BETWEEN_LOOKS_SECONDS)
        return True

    name, own = os.urandom(8).hex(), os.urandom(8)
    if place.rank == 0:
        store.set("attempt", name)
        for rank in range(1, place.size):
            if not is_there(f"{name}/question/{rank}", math.inf):
                raise RuntimeError(f"rank {rank} does not come")
            store.set(f"{name}/answer/{rank}", store.get(f"{name}/question/{rank}"))
        return name
    while is_there("attempt", math.inf):
        name = store.get("attempt").decode()
        store.set(f"{name}/question/{place.rank}", own)
        answer = f"{name}/answer/{place.rank}"
        if is_there(answer, 1.0) and store.get(answer) == own:  # else of an earlier attempt
            return str(name)
    raise RuntimeError("rank 0 does not answer")
