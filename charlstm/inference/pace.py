"""How many threads NumPy's matrix products get while text is sampled: found by trying, and tried again.

A second thread nearly doubles the speed of a large model on an idle machine. On a busy one it waits for a core at every
product and loses a factor of fifty. Neither is known beforehand and both may change, so the clock decides: a few
hundredths of a second with one thread, as many with several, then the quicker for a while.

One, two or four threads give the same bits where the hidden size is a multiple of 16 (OpenBLAS then divides the
columns, never a sum); other sizes keep one thread, so that the text does not depend on the clock.
"""

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from time import perf_counter
from typing import TypeVar, cast

from charlstm.settings import ModelSettings

T = TypeVar("T")

TRIAL_SECONDS = 0.01
CHECK_SECONDS = 0.05  # between two looks at whether several threads still do as well as in their trial
WON_SECONDS = 2.0  # until the next trial
LOST_SECONDS = 0.25  # until the next trial; doubles each time that several threads lose
LOST_SECONDS_AT_MOST = 8.0
WORTH_PRODUCTS = 500_000  # multiplications of a step from which on threads can gain anything
COLUMNS_TOGETHER = 16
THREAD_SETTERS = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads")


class Pace:
    """Told how long each step took, sets the number of threads for the next."""

    def __init__(self, several: int, set_threads: Callable[[int], object]) -> None:
        self.several, self.set_threads = several, set_threads
        self.lost_seconds = LOST_SECONDS
        self.cost_of_one = math.inf  # seconds a step in the last trial
        self.cost_of_several = math.inf
        self._begin(1, TRIAL_SECONDS, trial=True)

    def after_step(self, seconds: float) -> None:
        """Take note of a step's seconds."""
        self.seconds += seconds
        self.steps += 1
        if self.seconds < self.look_at:
            return
        cost = self.seconds / self.steps
        if not self.trial:
            self._after_hold(cost)
        elif self.threads == 1:
            self.cost_of_one = cost
            self._begin(self.several, TRIAL_SECONDS, trial=True)
        else:
            self._after_trial(cost)

    def _after_trial(self, cost: float) -> None:
        self.cost_of_several = cost
        if cost < self.cost_of_one:
            self.lost_seconds, self.hold_left = LOST_SECONDS, WON_SECONDS
            self._begin(self.several, CHECK_SECONDS)
        else:
            self._begin(1, self.lost_seconds)
            self.hold_left = self.lost_seconds
            self.lost_seconds = min(2 * self.lost_seconds, LOST_SECONDS_AT_MOST)

    def _after_hold(self, cost: float) -> None:
        self.hold_left -= self.seconds
        if self.threads == 1 or self.hold_left <= 0 or cost > self.cost_of_one:
            self._begin(1, TRIAL_SECONDS, trial=True)
        else:
            self._begin(self.several, CHECK_SECONDS)

    def _begin(self, threads: int, seconds: float, *, trial: bool = False) -> None:
        self.threads, self.look_at, self.trial = threads, seconds, trial
        self.seconds, self.steps = 0.0, 0
        self.set_threads(threads)


def several_threads(allowed: int, settings: ModelSettings, *, streams: int) -> int:
    """How many threads are worth trying: 4, 2 or 1, as far as allowed, and 1 for a model that is small or odd."""
    products = streams * 4 * settings.hidden_size**2 * (2 * settings.num_layers - 1)
    if products < WORTH_PRODUCTS or settings.hidden_size % COLUMNS_TOGETHER:
        return 1
    return 4 if allowed >= 4 else 2 if allowed >= 2 else 1


def paced(steps: Iterator[T], several: int) -> Iterator[T]:
    """Pass on the steps, each made with the number of threads, 1 or `several`, that serves best at the time."""
    set_threads = _set_threads()
    if several == 1 or set_threads is None:
        yield from steps
        return
    pace = Pace(several, set_threads)
    while True:
        begin = perf_counter()
        try:
            made = next(steps)
        except StopIteration:
            return
        pace.after_step(perf_counter() - begin)
        yield made


def _set_threads() -> Callable[[int], object] | None:
    """What sets the number of threads of NumPy's OpenBLAS, None where NumPy stands on another library."""
    for module in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        with suppress(ImportError, OSError):
            library = ctypes.CDLL(str(import_module(module).__file__))  # knows the names of what it is linked to
            for name in THREAD_SETTERS:
                with suppress(AttributeError):
                    return cast(Callable[[int], object], library[name])
            return None
    return None
