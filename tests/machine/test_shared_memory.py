"""Processes of one machine see the same memory, wait until all have come, and do not wait for one that has ended."""

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from charlstm.machine import shared_memory
from charlstm.machine.shared_memory import Barrier, offered_memory, open_memory

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files without a name are Linux's")


@pytest.fixture
def arrivals() -> list[Tensor]:
    with offered_memory(16) as path:
        found = [open_memory(path, (2,), torch.int64) for _ in range(2)]
    return [each for each in found if each is not None]


def test_memory_is_the_same_to_all_who_open_it(arrivals: list[Tensor]) -> None:
    ours, theirs = arrivals
    ours[1] = 7
    assert theirs.tolist() == [0, 7]


def test_memory_that_nobody_offers_is_none() -> None:
    assert open_memory("", (2,), torch.int64) is None
    assert open_memory("/proc/0/fd/99", (2,), torch.int64) is None


def test_barriers_are_left_when_all_have_come(arrivals: list[Tensor]) -> None:
    barriers = [Barrier(each, rank, [os.getpid()], longest=60.0) for rank, each in enumerate(arrivals)]
    done: list[int] = []

    def wait_often() -> None:
        for number in range(100):
            barriers[1].wait()
            done.append(number)

    other = threading.Thread(target=wait_often)
    other.start()
    for number in range(100):
        assert len(done) <= number
        barriers[0].wait()
    other.join()
    assert len(done) == 100


@pytest.mark.parametrize("came", [False, True])
def test_barriers_tell_of_a_process_that_has_ended_before_it_came(arrivals: list[Tensor], came: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        barrier = Barrier(arrivals[0], 0, [process.pid], longest=60.0)
        process.kill()
        process.wait()
    arrivals[1][1] = int(came)
    if came:
        barrier.wait()
    else:
        with pytest.raises(RuntimeError, match="ended"):
            barrier.wait()


def test_barriers_do_not_count_the_time_in_which_they_were_stopped(
    arrivals: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 100))  # seconds; as if each look came after a stop
    monkeypatch.setattr(shared_memory, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None))
    barrier = Barrier(arrivals[0], 0, [os.getpid()], longest=20.5)
    with pytest.raises(RuntimeError, match="does not come"):
        barrier.wait()
    assert next(clock) == 2200  # 21 looks after the first, a second each


def test_barriers_do_not_wait_for_ever(arrivals: list[Tensor]) -> None:
    with pytest.raises(RuntimeError, match="does not come"):
        Barrier(arrivals[0], 0, [os.getpid()], longest=0.01).wait()
