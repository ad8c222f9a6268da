"""What a training says while it runs: a header, one line of progress, a line a validation, and what was reached.

On a terminal the progress is a bar that redraws itself; elsewhere plain lines, one every few seconds.
"""

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from charlstm.cli.terminal import say
from charlstm.trainer import StepFacts

SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal to redraw a bar on


class Report:
    """Tells stderr how a training goes. `quiet` silences all of it."""

    def __init__(self, *, quiet: bool, first_step: int) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr is not None and sys.stderr.isatty()
        self.first_step = first_step
        self.bar: tqdm[Any] | None = None
        self.said_at = time.monotonic()

    def header(self, rows: Sequence[tuple[str, str]]) -> None:
        """Say what is trained on what, a row a fact."""
        if self.quiet:
            return
        if not self.terminal:
            for name, value in rows:
                say(f"{name:<11}{value}")
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, value)
        Console(stderr=True, markup=False, emoji=False, highlight=False).print(table)

    def step(self, facts: StepFacts, chars_per_second: float) -> None:
        """Say how a step went."""
        if self.quiet:
            return
        bits = facts.loss / math.log(2)
        if self.terminal:
            bar = self.bar or self._open_bar(facts)
            bar.total = facts.total_steps
            bar.set_postfix_str(
                f"loss {facts.loss:.3f}, {bits:.3f} bits/char, {chars_per_second:,.0f} chars/s", refresh=False
            )
            bar.update()
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
        if self.bar is not None:
            self.bar.clear()
        say(text)
        if self.bar is not None:
            self.bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _open_bar(self, facts: StepFacts) -> "tqdm[Any]":
        self.bar = tqdm(
            file=sys.stderr,
            total=facts.total_steps,
            initial=self.first_step,
            unit="step",
            leave=False,
            dynamic_ncols=True,
            bar_format="{percentage:3.0f}% {bar:20} {n_fmt}/{total_fmt} {elapsed}<{remaining} {postfix}",
        )
        return self.bar


def _step_of(facts: StepFacts) -> str:
    total = f"/{facts.total_steps}" if facts.total_steps is not None else ""
    return f"step {facts.step}{total}"
