"""Sums over shards have one order, whichever processes hold which of them; what counts as a lost process."""

import subprocess
import sys

import pytest
from torch.distributed import TCPStore

from charlstm.environment import ProcessPlace
from charlstm.errors import ProcessLostError
from charlstm.machine import Processes
from charlstm.machine.processes import lost_processes
from charlstm.machine.sums import add_neighbours


def bracketed(left: str, right: str) -> str:
    """An addition that shows the order in which it was done."""
    return f"({left}{right})"


def leaves(numbers: range) -> dict[tuple[int, int], str]:
    return {(0, number): "abcdefghijklmnopqrstuvwxyz"[number] for number in numbers}


@pytest.mark.parametrize(
    ("count", "whole"), [(1, "a"), (2, "(ab)"), (3, "((ab)c)"), (6, "(((ab)(cd))(ef))"), (7, "(((ab)(cd))((ef)g))")]
)
def test_sums_follow_a_tree_over_the_shards(count: int, whole: str) -> None:
    assert list(add_neighbours(leaves(range(count)), count, bracketed).values()) == [whole]


@pytest.mark.parametrize("count", range(1, 20))
@pytest.mark.parametrize("size", range(1, 9))
def test_sums_are_those_of_one_process_and_few_parts_are_sent(count: int, size: int) -> None:
    spread = Processes(ProcessPlace(0, size, 0, size)).spread(count)
    assert [number for own in spread for number in own] == list(range(count))
    sent = [add_neighbours(leaves(own), count, bracketed) for own in spread]
    assert all(len(parts) <= 2 * len(own).bit_length() for parts, own in zip(sent, spread, strict=True))
    together = {node: part for parts in sent for node, part in parts.items()}
    assert add_neighbours(together, count, bracketed) == add_neighbours(leaves(range(count)), count, bracketed)


def test_sums_of_as_many_shards_in_each_process_send_one_part() -> None:
    for own in Processes(ProcessPlace(0, 3, 0, 3)).spread(12):
        assert len(add_neighbours(leaves(own), 12, bracketed)) == 1


def test_torch_writes_nothing_of_a_lost_process_that_its_exception_says_already() -> None:
    store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    waiting = f"""if True:
        from charlstm.environment import prepare_torch
        prepare_torch()
        from torch.distributed import DistNetworkError, TCPStore
        store = TCPStore("127.0.0.1", {store.port}, None, False, wait_for_workers=False)
        print("met", flush=True)
        try:
            store.get("what is never there")
        except DistNetworkError:
            print("lost")
    """
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", waiting], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "met\n"
        del store
        assert process.communicate() == ("lost\n", "")


def test_processes_that_lack_memory_are_not_told_of_as_lost() -> None:
    with pytest.raises(RuntimeError, match="allocate"), lost_processes():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    with pytest.raises(ProcessLostError), lost_processes():
        raise RuntimeError("Connection closed by peer")
