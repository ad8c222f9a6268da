"""What a training leaves in its run folder while it runs: checkpoints and lines of metrics.

A disk that refuses does not end a training: what could not be written is written with what comes next.
"""

import math
from collections import deque
from typing import Any

from charlstm.cli.report import Report
from charlstm.errors import InputOutputError
from charlstm.runs import checkpoints
from charlstm.runs import folder as runs
from charlstm.runs.folder import Run
from charlstm.training.trainer import StepFacts, Trainer


class Saver:
    """Saves at the interval, at each new best and at the end; a save that fails is tried again at the next."""

    def __init__(self, run: Run, trainer: Trainer, report: Report, *, text_sha256: str) -> None:
        self.run = run
        self.trainer = trainer
        self.report = report
        self.text_sha256 = text_sha256
        self.unsaved_best: dict[str, Any] | None = None
        self.failures = 0

    def step(self, facts: StepFacts, log: "Log", *, must: bool) -> None:
        """Save after this step if it is time to, or if it must be; then a failure raises InputOutputError.

        What was logged before is written first: a run resumed from the checkpoint would not log it again.
        """
        if not (must or facts.is_best or facts.step % self.run.settings.training.save_every_steps == 0):
            return
        try:
            log.write()
            self.save(is_best=facts.is_best)
        except InputOutputError as error:
            self.failures += 1
            if must:
                raise
            self.report.line(f"{error}; training goes on and will try again at the next save ({self.failures} failed)")

    def save(self, *, is_best: bool) -> None:
        """Save the trainer as it is, and before it the best that an earlier failure left unsaved."""
        weights, training, progress = self.trainer.export()
        progress["text_sha256"] = self.text_sha256
        state = {"step": progress["step"], "weights": weights, "training": training, "progress": progress}
        if is_best:
            self.unsaved_best = state
        elif self.unsaved_best is not None:
            checkpoints.save_checkpoint(self.run, **self.unsaved_best, is_best=True)
        checkpoints.save_checkpoint(self.run, **state, is_best=is_best)
        self.unsaved_best = None


class Log:
    """Writes metrics.jsonl, and knows the speed since the last logged step."""

    def __init__(self, run: Run, trainer: Trainer, report: Report) -> None:
        self.run = run
        self.report = report
        self.chars_per_step = trainer.settings.batch_size * trainer.settings.sequence_length
        self.chars_per_second = math.nan
        self._steps, self._seconds = 0, 0.0
        self._unwritten: deque[dict[str, Any]] = deque()

    def step(self, facts: StepFacts) -> None:
        """Log a step at the interval, at a validation and at the end."""
        self._steps += 1
        self._seconds += facts.step_seconds
        logged = facts.step % self.run.settings.training.log_every_steps == 0
        if logged or math.isnan(self.chars_per_second):
            self.chars_per_second = self._steps * self.chars_per_step / self._seconds
        if logged or facts.validation is not None or facts.stopped_by is not None:
            self._unwritten.append(self._metrics(facts))
            try:
                self.write()
            except InputOutputError as error:
                self.report.line(f"{error}; training goes on and will write it with the next line")
        if logged:
            self._steps, self._seconds = 0, 0.0

    def write(self) -> None:
        """Write the lines that earlier failures left unwritten. Raises InputOutputError."""
        while self._unwritten:
            runs.append_metrics(self.run, self._unwritten[0])
            self._unwritten.popleft()

    def _metrics(self, facts: StepFacts) -> dict[str, Any]:
        metrics: dict[str, Any] = {
            "step": facts.step,
            "chars": facts.chars,
            "seconds": round(facts.seconds, 3),
            "loss": facts.loss,
            "bits_per_char": facts.loss / math.log(2),
            "learning_rate": facts.learning_rate,
            "grad_norm": facts.grad_norm,
            "chars_per_second": round(self.chars_per_second),
        }
        if facts.validation is not None:
            metrics["val_loss"] = facts.validation.loss
            metrics["val_bits_per_char"] = facts.validation.bits_per_char
            metrics["val_accuracy"] = facts.validation.accuracy
        return metrics
