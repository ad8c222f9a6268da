"""Shards: the parts of a batch, each computed from beginning to end by one thread, or by a team of torch's threads.

A team (OpenMP) cuts each matrix product, and its threads wait for each other, spinning, after every one; let one of
them lose its core for a moment and all stand still (`environment.prepare_torch` has them soon give up their core).
Shards meet once a step: beside one busy process a 2×256 model keeps 53 % of its speed, and the plain trainer, which is
cut by OpenMP, 37 % of its own (`benchmarks/train_speed.py`). But a shard has only some of the lanes, and thin matrix
products are slow: which is faster is measured (`autotuning`).

The numbers of shards and of threads in a team decide the bits of a result, as the order of every sum follows from them.
The number of threads only decides how many shards are computed at once, and that of processes which of them are
computed where.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from charlstm.machine.processes import ALONE, Processes

T = TypeVar("T")
U = TypeVar("U")


class Shards:
    """A number of shards, and what computes them: processes, each with threads, each perhaps with a team."""

    def __init__(
        self, count: int = 1, *, threads: int = 1, threads_per_shard: int = 1, processes: Processes = ALONE
    ) -> None:
        """threads: that compute a shard each at the same time. threads_per_shard: in the team of each, itself one."""
        self.count = count
        self.threads_per_shard = threads_per_shard
        self.processes = processes
        self.threads = max(1, min(threads, len(self._own(count))))
        if self.threads > 1:
            self._others = ThreadPoolExecutor(self.threads - 1, initializer=torch.set_flush_denormal, initargs=(True,))

    def own_lanes(self, lanes: int) -> slice:
        """Those of a batch's lanes that this process computes."""
        own, count = self._own(lanes), min(self.count, lanes)
        return slice(lanes * own.start // count, lanes * own.stop // count)

    def map(self, compute: Callable[[int, slice], T], lanes: int) -> list[T]:
        """What `compute` gives for each shard of this process, in their order.

        It is called with the number of the shard and its lanes, counted from the first that this process computes.
        """
        count, first = min(self.count, lanes), self.own_lanes(lanes).start
        ends = {shard: lanes * shard // count - first for shard in range(count + 1)}
        parts = [(shard, slice(ends[shard], ends[shard + 1])) for shard in self._own(lanes)]
        return self.each(lambda part: compute(*part), parts)

    def each(self, function: Callable[[U], T], things: Sequence[U]) -> list[T]:
        """What a function gives for each thing, in their order; several threads compute several at once."""

        def call_every(number: int) -> list[T]:
            torch.set_num_threads(self.threads_per_shard)  # of the thread that calls it alone
            return [function(thing) for thing in things[number :: self.threads]]

        waiting = [self._others.submit(call_every, number) for number in range(1, min(self.threads, len(things)))]
        by_thread = [call_every(0), *(done.result() for done in waiting)]
        return [by_thread[number % self.threads][number // self.threads] for number in range(len(things))]

    def map_tensors(self, function: Callable[[Tensor], Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
        """What a function gives for each tensor that all processes have, of the same shape, in their order.

        Processes of one machine compute some each.
        """
        return self.processes.map_tensors(lambda own: self.each(function, own), tensors)

    def sum(
        self, results: Sequence[Sequence[Tensor]], lanes: int, *, like: Sequence[Tensor], dtype: torch.dtype
    ) -> list[Tensor]:
        """The sums of what the shards of all processes have, tensors of the shapes in `like` and of this type.

        results: those of the shards of this process, as `map` gives them for so many lanes.
        """
        own = dict(zip(self._own(lanes), results, strict=True))
        return self.processes.sum(own, min(self.count, lanes), like=like, dtype=dtype)

    def _own(self, lanes: int) -> range:
        return self.processes.spread(min(self.count, lanes))[self.processes.rank]
