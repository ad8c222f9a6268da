"""Threads that each compute some of the lanes, on cores of their own.

A batch could be cut inside each matrix product instead, which is what OpenMP does. Its threads wait for each other,
spinning, after every product; let one of them lose its core for a moment and all stand still. Threads that have
lanes of their own meet once a step: beside one busy process a 2×256 model keeps 53 % of its speed, and the plain
trainer, which is cut by OpenMP, 37 % of its own (`benchmarks/train_speed.py`).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

T = TypeVar("T")

LEAST_LANES = 8  # of a thread: with fewer, its matrix products are too thin to keep a core busy


class Workers:
    """A number of threads for a number of lanes; more threads than lanes can feed work together on the same ones.

    The sums over lanes are taken in an order that the number of threads sets, so the same number gives the same bits.
    """

    def __init__(self, threads: int = 1, *, lanes: int = 1) -> None:
        self.count = count_workers(threads, lanes)
        if self.count > 1:
            torch.set_num_threads(threads // self.count)  # of this thread, which is the first worker
            self._others = ThreadPoolExecutor(self.count - 1, initializer=_prepare, initargs=(threads // self.count,))

    def map_lanes(self, compute: Callable[[slice], T], lanes: int) -> list[T]:
        """What `compute` gives for each worker's part of the lanes, in order."""
        count = count_workers(self.count, lanes)
        bounds = [lanes * worker // count for worker in range(count + 1)]
        first, *others = (slice(*part) for part in pairwise(bounds))
        waiting = [self._others.submit(compute, part) for part in others]
        return [compute(first), *(done.result() for done in waiting)]


def count_workers(threads: int, lanes: int) -> int:
    """How many workers that number of threads makes for that number of lanes."""
    return max(1, min(threads, lanes // LEAST_LANES))


def _prepare(threads: int) -> None:
    """What torch keeps for each thread by itself."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
