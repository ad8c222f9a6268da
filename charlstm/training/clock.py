"""What a training run measures time by: the clock, and the work of the processors for this process."""

import time
from typing import NamedTuple


class Moment(NamedTuple):
    """A point in time, or a time between two, in seconds."""

    clock: float
    worked: float  # by a processor for this process

    @classmethod
    def now(cls) -> "Moment":
        """The present one."""
        return cls(time.perf_counter(), time.process_time())

    def until(self, later: "Moment") -> "Moment":
        """The time from this one to a later one; some clocks go back."""
        return Moment(max(0.0, later.clock - self.clock), max(0.0, later.worked - self.worked))
