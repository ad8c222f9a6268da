"""The line that redraws itself on a terminal while a model is trained: how far, how long yet, how good."""

import math
import shutil
import sys
import time
from contextlib import suppress
from typing import Any

from tqdm import tqdm

from charlstm.runs import Progress
from charlstm.training import FORWARD_FRACTION, StepFacts, Trainer, minutes_alone

SECONDS_BETWEEN = 0.1  # of two drawings
SHORTEST, LONGEST = 8, 30  # columns of the bar itself
DROPPED = ("speed", "place", "bits")  # where there is no room for every figure, the first first


class Bar:
    """A bar with figures. The time left follows from the mean speed, and counts the validations that are to come."""

    def __init__(self, trainer: Trainer, *, unit: str) -> None:
        self.trainer = trainer
        self.unit = unit
        self.begun = trainer.progress
        self.drawn_at = -math.inf
        self.validations = 0
        self.figures: dict[str, str] = {}
        self.bar: tqdm[Any] = tqdm(total=1.0, bar_format=" ", file=sys.stderr, leave=False, dynamic_ncols=True)

    def step(self, facts: StepFacts, chars_per_second: float) -> None:
        """Draw what a step has come to, if the last drawing is not too recent."""
        self.validations += facts.validation is not None
        if time.monotonic() - self.drawn_at < SECONDS_BETWEEN:
            return
        self.figures = {
            "loss": f"loss {facts.loss:.3f}",
            "bits": f"{facts.loss / math.log(2):.3f} bits/{self.unit}",
            "speed": f"{chars_per_second:,.0f} {self.unit}s/s",
        }
        self._draw()

    def validating(self) -> None:
        """Draw that a validation has begun."""
        self.figures = {"loss": "validating"}
        self._draw()

    def clear(self) -> None:
        """Make room for a line; `refresh` draws the bar again below it."""
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
        share, left = self._share_and_seconds_left(progress)
        pieces = {"place": f"{progress.step}{total}" if total else f"step {progress.step}"}
        if left is not None:
            pieces["left"] = f"{tqdm.format_interval(left)} left"
        pieces |= self.figures
        columns = shutil.get_terminal_size().columns - 1
        for name in ("", *DROPPED):
            pieces.pop(name, None)
            line = "".join(f"  {piece}" for piece in pieces.values())
            room = columns - len("100% ") - len(line)
            if room >= SHORTEST:
                break
        with suppress(OSError):
            self.bar.n = share or 0.0
            bar = "" if share is None else f"{share:4.0%} {{bar:{max(1, min(room, LONGEST))}}}"
            self.bar.bar_format = bar + line.removeprefix("" if bar else "  ")
            self.bar.refresh()

    def _share_and_seconds_left(self, progress: Progress) -> tuple[float | None, float | None]:
        """How much of the run is done and how many seconds are left; None where no limit says so."""
        settings, total = self.trainer.settings, progress.total_steps
        ends = []
        if settings.max_minutes is not None:
            budget = 60 * settings.max_minutes
            ends.append((min(1.0, progress.seconds / budget), max(0.0, budget - progress.seconds)))
        if total is not None and not minutes_alone(settings):
            ends.append((progress.step / total, self._seconds_of_steps(progress, total)))
        return min(ends, key=lambda end: end[1], default=(None, None))

    def _seconds_of_steps(self, progress: Progress, total: int) -> float:
        """How long the steps up to a total will take, with their validations."""
        steps = progress.step - self.begun.step
        validating = progress.validation_seconds - self.begun.validation_seconds
        a_step = (progress.seconds - self.begun.seconds - validating) / max(1, steps)
        a_validation = validating / self.validations if self.validations else self._expected_seconds(a_step)
        every = self.trainer.settings.validate_every_steps
        validations = total // every - progress.step // every + (total % every > 0)  # the last is at the end
        return (total - progress.step) * a_step + validations * a_validation

    def _expected_seconds(self, a_step: float) -> float:
        """How long a validation should take, before there was one."""
        chars = len(self.trainer.validation_ids)
        return FORWARD_FRACTION * chars / self.trainer.batches.chars_per_step * a_step if chars > 1 else 0.0
