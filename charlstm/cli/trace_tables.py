"""The tables of `charlstm trace`: a small cell worked as on paper, for a terminal or a pipe."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from charlstm.cells import LETTERS, Array
from charlstm.cli.terminal import write, write_line
from charlstm.teaching import Example, Lesson, Stage, Work

_GATE_VERBS = {f"{name}_gate": verb for name, _, verb in LETTERS.values() if verb}


class Table(NamedTuple):
    """Rows of text under a title. The columns that hold numbers stand to the right."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: set[int]


def print_tables(heading: Sequence[str], tables: Sequence[Table]) -> None:
    """Write the tables under their heading to stdout: drawn on a terminal, in plain lines elsewhere."""
    if not sys.stdout.isatty():
        write_line("\n".join([*heading, *(line for table in tables for line in ("", *_plain_lines(table)))]))
        return
    console = Console(markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(heading[0], style="bold")
        for line in heading[1:]:
            console.print(line, style="italic")
        for table in tables:
            console.print()
            console.print(table.title, style="bold")
            drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
            for i, name in enumerate(table.columns):
                drawn.add_column(name, justify="right" if i in table.numbers else "left", overflow="fold")
            for row in table.rows:
                drawn.add_row(*row)
            console.print(drawn)
    write(captured.get().encode())


def _plain_lines(table: Table) -> Iterator[str]:
    yield table.title
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    for row in (table.columns, *table.rows):
        cells = [
            text.rjust(width) if i in table.numbers else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def work_tables(work: Work, weights: Mapping[str, Array]) -> Iterator[Table]:
    """Every step of a cell: what each gate sees, its value and what that means, and what becomes of the state."""
    peepholes = "weight×c + " if any(name.endswith(".c") for name in weights) else ""
    columns = ("", f"weight×h + weight×x + {peepholes}bias", "value", "")
    for number, (step, stages) in enumerate(zip(work.steps, work.stages, strict=True), 1):
        before = ", ".join(f"{name} = {_vector(array)}" for name, array in {"x": step.x, **step.state}.items())
        rows = [row for stage in stages for row in _stage_rows(stage)]
        yield Table(f"step {number}: {before}", columns, rows, {2})


def _stage_rows(stage: Stage) -> Iterator[tuple[str, ...]]:
    for unit, (products, total, value) in enumerate(zip(stage.sums, stage.totals, stage.value, strict=True), 1):
        name = stage.name.replace("_", " ") + (f" {unit}" if len(stage.value) > 1 else "")
        meaning = f"{value:.1%} {_GATE_VERBS[stage.name]}" if stage.name in _GATE_VERBS else ""
        yield name, _written_out(stage.activation, products, total), _rounded(value), meaning


def _written_out(activation: str, products: Sequence[Sequence[float]], total: float) -> str:
    """As on paper: "σ(2×1 + 1.65×1 + 0.62) = σ(4.27)"."""
    added = ""
    for first, *others in products:
        sign = (" - " if first < 0 else " + ") if added else ("-" if first < 0 else "")
        factors = [_short(abs(first)), *(f"({_short(factor)})" if factor < 0 else _short(factor) for factor in others)]
        added += sign + "×".join(factors)
    if activation == "none":
        return added
    name = "σ" if activation == "sigmoid" else activation
    return f"{name}({added})" + (f" = {name}({_short(total)})" if added != _short(total) else "")


def comparison_tables(works: Mapping[str, Work], gradients: Mapping[str, Array]) -> Iterator[Table]:
    """Cells side by side: h after every step, the gradient (T, 1) of the last output by each input, and the end."""
    columns = ("step", "x", *(f"{cell} {what}" for cell in works for what in ("h", "gradient")))
    rows = []
    for t, step in enumerate(next(iter(works.values())).steps):
        values = [
            (_vector(works[cell].steps[t].new_state["h"], _rounded), _rounded(gradients[cell][t, 0])) for cell in works
        ]
        rows.append((str(t + 1), _vector(step.x), *(text for pair in values for text in pair)))
    yield Table("gradient of the last output by the input of each step", columns, rows, set(range(len(columns))))
    ends = [(cell, _vector(work.output), _rounded(gradients[cell][0, 0])) for cell, work in works.items()]
    yield Table("at the end", ("", "last output", "its gradient by the first input"), ends, {1, 2})


def lesson_table(example: Example, cell: str, work: Work, lesson: Lesson) -> Table:
    """Every weight with its gradient, what a step of Adam changes, and what comes of it."""
    rows = []
    for name, weight in example.cells[cell].items():
        now, gradient, then = (np.squeeze(array) for array in (weight, lesson.gradients[name], lesson.weights[name]))
        for place in np.ndindex(now.shape):
            index = f"[{','.join(str(i + 1) for i in place)}]" if place else ""
            change = f"{then[place] - now[place]:.4g}"
            rows.append((name + index, f"{now[place]:.7g}", _rounded(gradient[place]), change, f"{then[place]:.7g}"))
    error = f"squared error {_rounded(lesson.squared_error)}, learning rate {example.learning_rate:g}"
    title = f"{cell}: output {_vector(work.output)}, target {_vector(example.target)}, {error}"
    return Table(title, ("weight", "now", "gradient", "a step of Adam", "then"), rows, {1, 2, 3, 4})


def _rounded(x: float) -> str:
    """Four decimals, or three figures where those would hide the number."""
    return f"{x:.4f}" if x == 0 or abs(x) >= 0.001 else f"{x:.2e}"


def _short(x: float) -> str:
    """As `_rounded`, without needless zeros."""
    text = _rounded(x + 0.0)  # -0.0 is 0
    return text if "e" in text else text.rstrip("0").rstrip(".")


def _vector(array: Array, written: Callable[[float], str] = _short) -> str:
    numbers = [written(x) for x in array.tolist()]
    return numbers[0] if len(numbers) == 1 else f"[{', '.join(numbers)}]"
