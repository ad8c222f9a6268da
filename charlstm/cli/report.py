"""What the user sees of a training run: a header, one line of progress, a line a validation, and what was reached.

On a terminal the progress is a bar that redraws itself; elsewhere plain lines, one every few seconds.
"""

import math
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.table import Table

from charlstm import environment
from charlstm.cli.bar import Bar
from charlstm.cli.terminal import print_diagnostic, printable
from charlstm.settings import OBJECTIVE_USES, Naming, SamplingSettings, TrainingSettings
from charlstm.text import STDIN, Corpus, DocumentBatches, split_ids
from charlstm.training import Began, Ended, Fact, Sampled, StepFacts, Stepped, Validating, Warned

SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal to redraw a bar on
COUNTED_AT_ONCE = 1 << 24  # ids, so that a large text is not held in memory


class Report:
    """Prints the facts of a training run to stderr as they come. `quiet` silences all of it."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty() and environment.terminal_redraws()
        self.bar: Bar | None = None
        self.naming = Naming()
        self.printed_at = time.monotonic()

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._close_bar()

    def __call__(self, fact: Fact) -> None:
        """Print a fact."""
        if self.quiet:
            return
        match fact:
            case Began():
                self.naming = Naming.of(fact.run.settings)
                self._header(header_rows(fact))
                if self.terminal:
                    self.bar = Bar(fact.trainer, self.naming)
            case Validating():
                if self.bar is not None:
                    self.bar.validating()
            case Stepped():
                self._step(fact.facts, fact.chars_per_second)
            case Sampled():
                self._line(fact.text, keep="\n\t")
            case Warned():
                self._line(self._fitted(fact.message), keep="\n")
            case Ended():
                self._close_bar()
                if fact.stopped_by is not None:
                    self._reached(fact, fact.stopped_by)

    def _header(self, rows: Sequence[tuple[str, str]]) -> None:
        if not self.terminal:
            for name, value in rows:
                print_diagnostic(f"{name:<12}{value}")
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, printable(value))
        with suppress(OSError):
            Console(stderr=True, markup=False, emoji=False, highlight=False).print(table)

    def _step(self, facts: StepFacts, chars_per_second: float) -> None:
        bits, name = facts.loss / math.log(2), self.naming.name
        bits_name = name("bits_per_char").replace("_per_", "/")
        if self.bar is not None:
            self.bar.step(facts, chars_per_second)
        elif facts.validation is None and time.monotonic() - self.printed_at >= SECONDS_BETWEEN_LINES:
            self._line(
                f"{_step_of(facts)}  {name('loss')} {facts.loss:.4f}  {bits_name} {bits:.4f}  "
                f"{chars_per_second:,.0f} {self.naming.unit}s/s"
            )
        if facts.validation is not None:
            tally = facts.validation
            mark = "  best" if facts.is_best else ""
            line = (
                f"{_step_of(facts)}  {name('val_loss')} {tally.loss:.4f}  {bits_name} {tally.bits_per_char:.4f}  "
                f"{name('accuracy')} {tally.accuracy:.1%}{mark}"
            )
            self._line(self._fitted(line), keep="\n")

    def _line(self, text: str, *, keep: str = "") -> None:
        """Print a line, above the bar if there is one."""
        self.printed_at = time.monotonic()
        with suppress(OSError):  # a terminal that is gone does not end the run
            if self.bar is not None:
                self.bar.clear()
            print_diagnostic(text, keep=keep)
            if self.bar is not None:
                self.bar.refresh()

    def _fitted(self, text: str) -> str:
        """The text as a line, on a terminal as several where it is too long for one, none cut within a word."""
        line = " ".join(text.splitlines())
        columns = shutil.get_terminal_size().columns
        if not self.terminal or len(line) <= columns:
            return line
        return textwrap.fill(line, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)

    def _reached(self, ended: Ended, limit: str) -> None:
        """Print which limit ended the run, how good the model is, and how to use it."""
        run, facts, progress = ended.run, ended.facts, ended.progress
        if facts is None:
            self._line(f"{run.folder} has reached {limit} already: raise it with --set {limit}=…")
            return
        minutes, seconds = divmod(round(facts.seconds), 60)
        chars = _count(facts.chars, run.settings.data.unit)
        self._line(f"{limit} reached: {_count(facts.step, 'step')}, {chars}, {minutes} min {seconds} s")
        best = progress.best_loss
        words = self.naming.name("bits_per_char").replace("_", " ").replace("char", "character")
        if best is None:
            bits = f"{facts.loss / math.log(2):.4f} {words}"
            self._line(f"{self.naming.name('loss')} {facts.loss:.4f} ({bits}), not validated")
        else:
            best_of = f"{self.naming.name('val_loss')} {best:.4f} ({best / math.log(2):.4f} {words})"
            self._line(f"best {best_of} at step {progress.best_step}, in {run.folder}")
        use = OBJECTIVE_USES[run.settings.model.objective]
        options = use.options if run.settings.sampling == SamplingSettings() else ""  # which the run has of its own
        self._line(f"{use.purpose} with: {use.command} --run {shlex.quote(str(run.folder))}{options}")

    def _close_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def header_rows(began: Began) -> list[tuple[str, str]]:
    """What is trained, on what, until when and where: the rows of the header."""
    trainer, corpus = began.trainer, began.corpus
    settings, machine = began.run.settings, trainer.machine
    sources = ["standard input" if source == STDIN else source for source in settings.data.sources]
    shape = f"{settings.model.num_layers} × {settings.model.hidden_size}"
    cores = f"{_count(machine.shards, 'shard')} on {_count(trainer.shards.threads, 'thread')}"
    if machine.threads_per_shard > 1:
        cores += f", each with a team of {machine.threads_per_shard}"
    if machine.processes.size > 1:
        cores = f"{cores} in each of {machine.processes.size:,} processes"
    rows = [
        ("text", f"{', '.join(sources)}: {_count(corpus.chars, settings.data.unit)}"),
        ("", _parts(began)),
        ("vocabulary", _vocabulary(corpus)),
        ("model", f"{settings.model.cell} {shape}, {_count(began.parameters, 'parameter')}"),
        ("device", f"{machine.device.type}, {cores}, {machine.precision}"),
        ("until", _limits(settings.training, trainer.batches.steps_per_epoch)),
        ("run", str(began.run.folder)),
    ]
    if began.chosen is not None:
        rows.insert(4, ("chosen", began.chosen))
    if trainer.progress.step:
        rows.append(("resumed", f"after step {trainer.progress.step}"))
    if began.inherited is not None:
        rows.append(("begins with", began.inherited))
    return rows


def _parts(began: Began) -> str:
    """How much of the text there is to train and to validate on, and what part of batches of documents is empty."""
    batches, counts = began.trainer.batches, began.documents
    if counts is None or not isinstance(batches, DocumentBatches):
        train, val, _ = map(len, split_ids(began.corpus.ids, began.run.settings.data.split))
        return f"{train:,} to train, {val:,} to validate"
    padding = f"{batches.padding:.1%} of a batch is padding"
    return f"{_count(counts.train, 'document')} to train, {counts.val:,} to validate; {padding}"


def _step_of(facts: StepFacts) -> str:
    total = f"/{facts.total_steps}" if facts.total_steps is not None else ""
    return f"step {facts.step}{total}"


def _limits(settings: TrainingSettings, steps_per_epoch: int) -> str:
    """What ends the run, whichever comes first."""
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
    size = f"{_count(vocab.size - vocab.has_unknown_symbol - vocab.has_boundary, vocab.unit)}"
    size += " and the end of documents" * vocab.has_boundary
    if vocab.unknown_id is None:
        return size
    firsts = range(0, corpus.chars, COUNTED_AT_ONCE)
    rare = sum(np.count_nonzero(corpus.ids[at : at + COUNTED_AT_ONCE] == vocab.unknown_id) for at in firsts)
    return (
        f"{size} and the unknown symbol, which stands for {_count(int(rare), 'char')} "
        f"of the text ({rare / corpus.chars:.2%})"
    )


def _count(number: float, noun: str) -> str:
    return f"{number:,.12g} {'character' if noun == 'char' else noun}{'' if number == 1 else 's'}"
