"""Shards: parts of a batch computed side by side come out in order, whichever threads computed them."""

import threading
from collections.abc import Iterator

import pytest
import torch

from charlstm.machine import Shards


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 4, 7])
@pytest.mark.parametrize("lanes", [1, 7, 16, 17, 50])
def test_shards_take_every_lane_once_and_in_order_whatever_the_threads(threads: int, count: int, lanes: int) -> None:
    parts = Shards(count, threads=threads).map(lambda shard, part: (shard, list(range(lanes)[part])), lanes)
    assert [shard for shard, _ in parts] == list(range(min(count, lanes)))
    assert [lane for _, part in parts for lane in part] == list(range(lanes))
    assert parts == Shards(count).map(lambda shard, part: (shard, list(range(lanes)[part])), lanes)
    sizes = [len(part) for _, part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_shards_are_computed_by_threads_of_one_core_each() -> None:
    torch.set_num_threads(1)
    found = Shards(5, threads=2).map(lambda _shard, _lanes: (threading.get_ident(), torch.get_num_threads()), 16)
    assert {cores for _, cores in found} == {1}
    first, second, *rest = [thread for thread, _ in found]
    assert first == threading.get_ident() != second
    assert rest == [first, second, first]


def test_shards_are_computed_by_teams_of_as_many_threads_as_were_asked_for() -> None:
    shards = Shards(3, threads=2, threads_per_shard=2)
    assert shards.map(lambda _shard, _lanes: torch.get_num_threads(), 16) == [2, 2, 2]
    assert Shards(2, threads=2).map(lambda _shard, _lanes: torch.get_num_threads(), 16) == [1, 1]


def test_shards_flush_denormal_numbers_whatever_this_thread_does() -> None:
    torch.set_flush_denormal(False)
    tiny = torch.full((8,), 1e-38)
    flushed = Shards(2, threads=2).map(lambda _shard, _lanes: bool((tiny * 1e-3).eq(0).all()), 16)
    assert flushed == [False, True]


@pytest.mark.parametrize("wrong", [0, 1])
def test_shards_pass_on_what_goes_wrong_in_any_of_them(wrong: int) -> None:
    def compute(shard: int, _lanes: slice) -> None:
        if shard == wrong:
            raise MemoryError

    with pytest.raises(MemoryError):
        Shards(2, threads=2).map(compute, 16)
