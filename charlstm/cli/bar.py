"""The line that redraws itself on a terminal while a model is trained: how far, how long yet, how good."""

import math
import shutil
import sys
import time
from contextlib import suppress
from typing import Any

from tqdm import tqdm

from charlstm.settings import Naming
from charlstm.training import StepFacts, Trainer

SECONDS_BETWEEN = 0.1  # of two drawings
SHORTEST, LONGEST = 8, 30  # columns of the bar itself
DROPPED = ("speed", "place", "bits")  # where there is not every figure fits, the first first


class Bar:
    """A bar with figures. The time left follows from the present pace, and counts the validations that are to come."""

    def __init__(self, trainer: Trainer, naming: Naming) -> None:
        self.trainer = trainer
        self.naming = naming
        self.drawn_at = -math.inf
        self.figures: dict[str, str] = {}
        self.bar: tqdm[Any] = tqdm(total=1.0, bar_format=" ", file=sys.stderr, leave=False, dynamic_ncols=True)

    def step(self, facts: StepFacts, chars_per_second: float) -> None:
        """Draw what a step has come to, if the last drawing is not too recent."""
        if time.monotonic() - self.drawn_at < SECONDS_BETWEEN:
            return
        self.figures = {
            "loss": f"{self.naming.name('loss')} {facts.loss:.3f}",
            "bits": f"{facts.loss / math.log(2):.3f} bits/{self.naming.unit}",
            "speed": f"{chars_per_second:7,.0f} {self.naming.unit}s/s",
        }
        self._draw()

    def validating(self) -> None:
        """Draw that a validation has begun."""
        gaps = {name: " " * len(figure) for name, figure in self.figures.items()}  # so that the bar keeps its length
        self.figures = gaps | {"loss": "validating"}
        self._draw()

    def share_and_seconds_left(self) -> tuple[float | None, float | None]:
        """How much of the run is done and how many seconds are left; None where no limit says so."""
        progress = self.trainer.progress
        left, total = self.trainer.seconds_left(), progress.total_steps
        if left is None:
            return None, None
        if total is not None and total == progress.plan.max_steps:
            return progress.step / total, left
        return progress.seconds / (progress.seconds + left), left

    def clear(self) -> None:
        """Clear the bar away for a line; `refresh` draws the bar again below it."""
        self.bar.clear()

    def refresh(self) -> None:
        """Draw the bar again."""
        self.bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        with suppress(OSError):
            self.bar.close()

    def _draw(self) -> None:
        self.drawn_at = time.monotonic()
        progress = self.trainer.progress
        total = f"/{progress.total_steps}" if progress.total_steps is not None else ""
        share, left = self.share_and_seconds_left()
        pieces = {"place": f"{progress.step:{len(total) - 1}}{total}" if total else f"step {progress.step}"}
        if left is not None:
            pieces["left"] = f"{tqdm.format_interval(left)} left"
        pieces |= self.figures
        columns = shutil.get_terminal_size().columns - 1
        for name in ("", *DROPPED):
            pieces.pop(name, None)
            line = "".join(f"  {piece}" for piece in pieces.values())
            width = columns - len("100% ") - len(line)
            if width >= SHORTEST:
                break
        with suppress(OSError):
            self.bar.n = share or 0.0
            bar = "" if share is None else f"{share:4.0%} {{bar:{max(1, min(width, LONGEST))}}}"
            self.bar.bar_format = bar + line.removeprefix("" if bar else "  ")
            self.bar.refresh()
