"""What a training run leaves in its folder while it runs: rows of metrics and checkpoints.

A disk that refuses does not end the run, unless it refuses the first state or the last: what could not be written is
written with what comes next.
"""

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from charlstm.errors import DivergedError, InputOutputError
from charlstm.runs import Checkpoint, MetricsRow, Run, append_metrics, refuse_replaced, save_checkpoint
from charlstm.settings import Naming
from charlstm.training.trainer import DIVERGENCE_CURE, StepFacts, Trainer


class Recorder:
    """Logs at the interval and at validations; saves at the interval, at each new best and at the end."""

    def __init__(self, run: Run, trainer: Trainer, *, warn: Callable[[str], None]) -> None:
        """warn: told in a sentence what could not be written. Of the trainer's processes only the first writes."""
        self.run = run
        self.trainer = trainer
        self.warn = warn
        self.chars_per_second = math.nan  # of the last log interval
        self._chars, self._seconds = trainer.progress.chars, 0.0  # at the last interval, and since then
        self._unwritten: deque[MetricsRow] = deque()
        self._unsaved_best: Checkpoint | None = None
        self._failed_saves = 0
        self._writes = trainer.processes.leads

    def log(self, facts: StepFacts) -> None:
        """Log a step if it is time to."""
        self._seconds += facts.step_seconds
        at_interval = facts.step % self.run.settings.training.log_every_steps == 0
        if at_interval or math.isnan(self.chars_per_second):
            self.chars_per_second = (facts.chars - self._chars) / (self._seconds or math.inf)
        if self._writes and (at_interval or facts.validation is not None or facts.stopped_by is not None):
            self._unwritten.append(_metrics_row(facts, self.chars_per_second))
            try:
                self._write_metrics()
            except InputOutputError as error:
                self.warn(f"{error}; training goes on and will write it with the next line")
        if at_interval:
            self._chars, self._seconds = facts.chars, 0.0

    def save(self, facts: StepFacts, *, must: bool) -> None:
        """Save after a step if it is time to, or if it must be; then a failure raises InputOutputError.

        What was logged before is written first, since a run resumed from the checkpoint would not log it again; where
        that fails, the state is saved all the same.
        """
        if not (must or facts.is_best or facts.step % self.run.settings.training.save_every_steps == 0):
            return
        checkpoint = self._export()
        if facts.is_best and self._writes:
            self._unsaved_best = checkpoint
        try:
            try:
                self._write_metrics()
            finally:
                self._write(checkpoint)
        except InputOutputError as error:
            self._failed_saves += 1
            if must:
                raise
            self.warn(f"{error}; training goes on and will try again at the next save ({self._failed_saves} failed)")

    def save_now(self) -> None:
        """Save the trainer's state, which is not the best of any."""
        self._write(self._export())

    def _export(self) -> Checkpoint:
        """The trainer's state. Raises DivergedError for numbers that are not finite, as a single step can leave."""
        checkpoint = self.trainer.export()
        for name, array in (checkpoint.weights | checkpoint.training).items():
            if not np.isfinite(array).all():
                raise DivergedError(
                    f"after step {checkpoint.progress.step} {name} holds numbers that are not finite: the last "
                    f"checkpoint is kept as it was; {DIVERGENCE_CURE}"
                )
        return checkpoint

    def _write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and before it the best that an earlier failure left unsaved."""
        if not self._writes:
            return
        is_best = self._unsaved_best is checkpoint
        if self._unsaved_best is not None and not is_best:
            save_checkpoint(self.run, self._unsaved_best, is_best=True)
        save_checkpoint(self.run, checkpoint, is_best=is_best)
        self._unsaved_best = None

    def _write_metrics(self) -> None:
        while self._unwritten:
            refuse_replaced(self.run)
            append_metrics(self.run.folder, self._unwritten[0], Naming.of(self.run.settings))
            self._unwritten.popleft()


def _metrics_row(facts: StepFacts, chars_per_second: float) -> MetricsRow:
    validation = facts.validation
    return MetricsRow(
        step=facts.step,
        chars=facts.chars,
        seconds=round(facts.seconds, 3),
        loss=facts.loss,
        bits_per_char=facts.loss / math.log(2),
        learning_rate=facts.learning_rate,
        grad_norm=facts.grad_norm,
        chars_per_second=round(chars_per_second),
        val_loss=None if validation is None else validation.loss,
        val_bits_per_char=None if validation is None else validation.bits_per_char,
        val_accuracy=None if validation is None else validation.accuracy,
    )
