"""What a training says while it runs: a header, one line of progress, a line a validation, and what was reached.

On a terminal the progress is a bar that redraws itself; elsewhere plain lines, one every few seconds.
"""

import math
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from charlstm import environment
from charlstm.cli.terminal import say
from charlstm.networks.models import num_parameters
from charlstm.runs.folder import Run
from charlstm.settings import TrainingSettings
from charlstm.text.corpus import Corpus
from charlstm.text.sources import STDIN
from charlstm.training.trainer import StepFacts, Trainer

SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal to redraw a bar on
WIDE_COLUMNS = 90  # with fewer a terminal has no room for every figure and a bar in one line
COUNTED_AT_ONCE = 1 << 24  # ids, so that a large text is not held in memory


class Report:
    """Tells stderr how a training goes. `quiet` silences all of it."""

    def __init__(self, *, quiet: bool, first_step: int) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty() and environment.terminal_redraws()
        self.first_step = first_step
        self.bar: tqdm[Any] | None = None
        self.said_at = time.monotonic()

    def header(self, rows: Sequence[tuple[str, str]]) -> None:
        """Say what is trained on what, a row a fact."""
        if self.quiet:
            return
        if not self.terminal:
            for name, value in rows:
                say(f"{name:<12}{value}")
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, value)
        with suppress(OSError):
            Console(stderr=True, markup=False, emoji=False, highlight=False).print(table)

    def step(self, facts: StepFacts, chars_per_second: float) -> None:
        """Say how a step went."""
        if self.quiet:
            return
        bits = facts.loss / math.log(2)
        if self.terminal:
            self._draw(facts, chars_per_second)
        elif facts.validation is None and time.monotonic() - self.said_at >= SECONDS_BETWEEN_LINES:
            self.line(
                f"{_step_of(facts)}  loss {facts.loss:.4f}  bits/char {bits:.4f}  {chars_per_second:,.0f} chars/s"
            )
        if facts.validation is not None:
            tally = facts.validation
            mark = "  best" if facts.is_best else ""
            self.line(
                f"{_step_of(facts)}  val_loss {tally.loss:.4f}  bits/char {tally.bits_per_char:.4f}  "
                f"accuracy {tally.accuracy:.1%}{mark}"
            )

    def line(self, text: str) -> None:
        """Say one line, above the bar if there is one."""
        if self.quiet:
            return
        self.said_at = time.monotonic()
        with suppress(OSError):  # a terminal that is gone does not end the training
            if self.bar is not None:
                self.bar.clear()
            say(text)
            if self.bar is not None:
                self.bar.refresh()

    def reached(self, run: Run, trainer: Trainer, facts: StepFacts) -> None:
        """Say which limit ended the training, how good the model is, and how to use it."""
        minutes, seconds = divmod(round(facts.seconds), 60)
        self.line(
            f"{facts.stopped_by} reached: {_count(facts.step, 'step')}, "
            f"{_count(facts.chars, run.settings.data.unit)}, "
            f"{minutes} min {seconds} s"
        )
        best = trainer.progress.best_loss
        if best is None:
            self.line(f"loss {facts.loss:.4f} ({facts.loss / math.log(2):.4f} bits per character), not validated")
        else:
            bits = f"{best / math.log(2):.4f} bits per character"
            self.line(f"best val_loss {best:.4f} ({bits}) at step {trainer.progress.best_step}, in {run.folder}")
        folder = shlex.quote(str(run.folder))
        if run.settings.model.objective == "cloze":
            self.line(f"fill gaps with: charlstm fill --run {folder}")
        else:
            self.line(f"sample with: charlstm sample --run {folder} --temp 0.8 --top-k 10")

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            with suppress(OSError):
                self.bar.close()
            self.bar = None

    def _draw(self, facts: StepFacts, chars_per_second: float) -> None:
        place = "step {n_fmt}  {elapsed}"
        if facts.total_steps is not None:
            place = "{percentage:3.0f}%  {remaining} left"
        line = f"{place}  loss {facts.loss:.3f}"
        if shutil.get_terminal_size().columns >= WIDE_COLUMNS:
            place = place.replace("%", "% {bar:20} {n_fmt}/{total_fmt}")
            bits = facts.loss / math.log(2)
            line = f"{place}  loss {facts.loss:.3f}  {bits:.3f} bits/char  {chars_per_second:,.0f} chars/s"
        with suppress(OSError):
            if self.bar is None:
                self.bar = tqdm(file=sys.stderr, initial=self.first_step, leave=False, dynamic_ncols=True)
            self.bar.total, self.bar.bar_format = facts.total_steps, line
            self.bar.update()


def header_rows(run: Run, trainer: Trainer, corpus: Corpus) -> list[tuple[str, str]]:
    """What is trained, on what, until when and where: the rows of the header."""
    settings, runtime, unit = run.settings, trainer.runtime, run.settings.data.unit
    train, val = len(trainer.lanes.ids), len(trainer.validation_ids)
    shape = f"{settings.model.num_layers} × {settings.model.hidden_size}"
    sources = ["standard input" if source == STDIN else source for source in settings.data.sources]
    rows = [
        ("text", f"{', '.join(sources)}: {_count(corpus.chars, unit)}"),
        ("", f"{train:,} to train, {val:,} to validate"),
        ("vocabulary", _vocabulary(corpus)),
        ("model", f"{settings.model.cell} {shape}, {_count(num_parameters(trainer.model), 'parameter')}"),
        ("device", f"{runtime.device.type}, {_count(runtime.threads, 'thread')}, {runtime.precision}"),
        ("until", _limits(settings.training, trainer.lanes.steps_per_epoch)),
        ("run", str(run.folder)),
    ]
    if trainer.progress.step:
        rows.append(("resumed", f"after step {trainer.progress.step}"))
    return rows


def _step_of(facts: StepFacts) -> str:
    total = f"/{facts.total_steps}" if facts.total_steps is not None else ""
    return f"step {facts.step}{total}"


def _limits(settings: TrainingSettings, steps_per_epoch: int) -> str:
    """What ends the training, whichever comes first."""
    limits = []
    if settings.max_steps is not None:
        limits.append(_count(settings.max_steps, "step"))
    if settings.max_epochs is not None:
        limits.append(f"{_count(settings.max_epochs, 'epoch')} of {_count(steps_per_epoch, 'step')}")
    if settings.max_minutes is not None:
        limits.append(_count(settings.max_minutes, "minute"))
    if settings.patience is not None:
        limits.append(f"{_count(settings.patience, 'validation')} without a new best")
    return ", or ".join(limits)


def _vocabulary(corpus: Corpus) -> str:
    """Its size, and how much of the text is left to the unknown symbol."""
    vocab = corpus.vocab
    if vocab.unknown_id is None:
        return _count(vocab.size, vocab.unit)
    firsts = range(0, corpus.chars, COUNTED_AT_ONCE)
    rare = sum(np.count_nonzero(corpus.ids[at : at + COUNTED_AT_ONCE] == vocab.unknown_id) for at in firsts)
    return (
        f"{_count(vocab.size - 1, vocab.unit)} and the unknown symbol, which stands for {_count(int(rare), 'char')} "
        f"of the text ({rare / corpus.chars:.2%})"
    )


def _count(number: float, noun: str) -> str:
    return f"{number:,.12g} {'character' if noun == 'char' else noun}{'' if number == 1 else 's'}"
