"""Shards: the parts of a batch, each computed by one thread from beginning to end.

A batch could be cut inside each matrix product instead, which is what OpenMP does. Its threads wait for each other,
spinning, after every product; let one of them lose its core for a moment and all stand still. Shards meet once a step:
beside one busy process a 2×256 model keeps 53 % of its speed, and the plain trainer, which is cut by OpenMP, 37 % of
its own (`benchmarks/train_speed.py`).

The number of shards decides the bits of a result, as the order of every sum over lanes follows from it. The number of
threads only decides how many shards are computed at once, and that of processes which of them are computed where.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from charlstm.machine.processes import ALONE, Processes

T = TypeVar("T")


class Shards:
    """A number of shards, and what computes them: processes, each with threads that use one processor core each."""

    def __init__(self, count: int = 1, *, threads: int = 1, processes: Processes = ALONE) -> None:
        self.count = count
        self.processes = processes
        self.threads = max(1, min(threads, len(self._own(count))))
        if self.threads > 1:
            self._others = ThreadPoolExecutor(self.threads - 1, initializer=_prepare_thread)

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

        def compute_every(number: int) -> list[T]:
            return [compute(*part) for part in parts[number :: self.threads]]

        waiting = [self._others.submit(compute_every, number) for number in range(1, min(self.threads, len(parts)))]
        by_thread = [compute_every(0), *(done.result() for done in waiting)]
        return [by_thread[number % self.threads][number // self.threads] for number in range(len(parts))]

    def sum(self, results: Sequence[Sequence[Tensor]], lanes: int, *, like: Sequence[Tensor]) -> list[Tensor]:
        """The sums of what the shards of all processes have, tensors of the shapes in `like`.

        results: those of the shards of this process, as `map` gives them for so many lanes.
        """
        own = dict(zip(self._own(lanes), results, strict=True))
        return self.processes.sum(own, min(self.count, lanes), like=like)

    def _own(self, lanes: int) -> range:
        return self.processes.spread(min(self.count, lanes))[self.processes.rank]


def _prepare_thread() -> None:
    """Set what torch keeps for each thread by itself."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
