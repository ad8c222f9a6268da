"""Shards: the parts of a batch, each computed by one thread from beginning to end.

A batch could be cut inside each matrix product instead, which is what OpenMP does. Its threads wait for each other,
spinning, after every product; let one of them lose its core for a moment and all stand still. Shards meet once a step:
beside one busy process a 2×256 model keeps 53 % of its speed, and the plain trainer, which is cut by OpenMP, 37 % of
its own (`benchmarks/train_speed.py`).

The number of shards decides the bits of a result, as the order of every sum over lanes follows from it. The number of
threads only decides how many shards are computed at once.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

T = TypeVar("T")


class Shards:
    """A number of shards and the threads that compute them; each thread uses one processor core."""

    def __init__(self, count: int = 1, *, threads: int = 1) -> None:
        self.count = count
        self.threads = min(threads, count)
        if self.threads > 1:
            self._others = ThreadPoolExecutor(self.threads - 1, initializer=_prepare_thread)

    def map(self, compute: Callable[[int, slice], T], lanes: int) -> list[T]:
        """What `compute` gives for each shard, called with its number and its lanes, in the order of shards."""
        count = min(self.count, lanes)
        bounds = [lanes * shard // count for shard in range(count + 1)]
        parts = [(shard, slice(*ends)) for shard, ends in enumerate(pairwise(bounds))]

        def compute_every(first: int) -> list[T]:
            return [compute(*part) for part in parts[first :: self.threads]]

        waiting = [self._others.submit(compute_every, first) for first in range(1, min(self.threads, count))]
        by_thread = [compute_every(0), *(done.result() for done in waiting)]
        return [by_thread[shard % self.threads][shard // self.threads] for shard in range(count)]


def _prepare_thread() -> None:
    """Set what torch keeps for each thread by itself."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
