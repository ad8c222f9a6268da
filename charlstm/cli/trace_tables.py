"""The tables of `charlstm trace` and `charlstm compare`: a small cell worked as on paper, taught, and held to torch's.

Letters: `T` steps, `H` units, `D` directions.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

import numpy as np

from charlstm.cells import LETTERS, Array
from charlstm.cli.tables import Table
from charlstm.teaching import KERNELS, Comparison, Example, Lesson, Stage, Work, rounded, short

MOST_PRODUCTS = 8  # that are written out; of more, those of two vectors are added up first
_CURVE_ROWS = 20
_BAR, _BAR_COLUMNS = "▏▎▍▌▋▊▉█", 20
_GATE_VERBS = {f"{name}_gate": verb for name, _, verb in LETTERS.values() if verb}


def work_tables(work: Work, weights: Mapping[str, Array]) -> Iterator[Table]:
    """Every step of a cell: what each gate sees, its value and what that means, and what becomes of the state."""
    peepholes = "weight×c + " if any(name.endswith(".c") for name in weights) else ""
    columns = ("", f"weight×h + weight×x + {peepholes}bias", "value", "")
    for step, stages in zip(work.steps, work.stages, strict=True):
        before = ", ".join(f"{name} = {_vector(array)}" for name, array in {"x": step.x, **step.state}.items())
        rows = [row for stage in stages for row in _stage_rows(stage)]
        yield Table(f"{step.title}: {before}", columns, rows, {2})


def _stage_rows(stage: Stage) -> Iterator[tuple[str, ...]]:
    for unit, (products, total, value) in enumerate(zip(stage.sums, stage.totals, stage.value, strict=True), 1):
        name = stage.name.replace("_", " ") + (f" {unit}" if len(stage.value) > 1 else "")
        meaning = f"{value:.1%} {_GATE_VERBS[stage.name]}" if stage.name in _GATE_VERBS else ""
        yield name, _written_out(stage, products, total), rounded(value), meaning


def _written_out(stage: Stage, products: Sequence[Sequence[float]], total: float) -> str:
    """As on paper: "σ(2×1 + 1.65×1 + 0.62) = σ(4.27)"."""
    if len(products) > MOST_PRODUCTS:
        ends = accumulate(stage.addends)
        products = [
            (math.fsum(map(math.prod, products[end - count : end])),)
            for count, end in zip(stage.addends, ends, strict=True)
        ]
    added = ""
    for first, *others in products:
        sign = (" - " if first < 0 else " + ") if added else ("-" if first < 0 else "")
        factors = [short(abs(first)), *(f"({short(factor)})" if factor < 0 else short(factor) for factor in others)]
        added += sign + "×".join(factors)
    if stage.activation == "none":
        return added
    name = "σ" if stage.activation == "sigmoid" else stage.activation
    return f"{name}({added})" + (f" = {name}({short(total)})" if added != short(total) else "")


def comparison_tables(works: Mapping[str, Work], gradients: Mapping[str, Array]) -> Iterator[Table]:
    """Cells side by side: h after every step, the gradient (T, 1) of the last output by each input, and the end."""
    columns = ("step", "x", *(f"{cell} {what}" for cell in works for what in ("h", "gradient")))
    rows = []
    for t, step in enumerate(next(iter(works.values())).steps):
        values = [
            (_vector(works[cell].steps[t].new_state["h"], rounded), rounded(gradients[cell][t, 0])) for cell in works
        ]
        rows.append((str(t + 1), _vector(step.x), *(text for pair in values for text in pair)))
    yield Table("gradient of the last output by the input of each step", columns, rows, set(range(len(columns))))
    ends = [(cell, _vector(work.output), rounded(gradients[cell][0, 0])) for cell, work in works.items()]
    yield Table("at the end", ("", "last output", "its gradient by the first input"), ends, {1, 2})


def lesson_tables(example: Example, cell: str, lesson: Lesson) -> Iterator[Table]:
    """The squared error while Adam takes its steps, if they are several; every weight with its gradient and change."""
    errors, outputs = lesson.squared_errors, lesson.outputs
    count = len(errors) - 1
    about = f"output {_vector(outputs[0])}, target {_vector(example.target)}, squared error {rounded(errors[0])}"
    title = f"{cell}: {about}, learning rate {example.learning_rate:g}"
    if count > 1:
        shown = np.unique(np.linspace(0, count, min(count, _CURVE_ROWS) + 1).round().astype(int)).tolist()
        highest = max(errors) or 1.0  # all are 0 where there is nothing to learn
        curve = [(str(n), _vector(outputs[n], rounded), rounded(errors[n]), _bar(errors[n] / highest)) for n in shown]
        yield Table(f"{cell}: {count} steps of Adam", ("step", "output", "squared error", ""), curve, {0, 1, 2})
        title += f"; after {count} steps {_vector(outputs[-1])}, squared error {rounded(errors[-1])}"
    rows = []
    for name, weight in example.cells[cell].items():
        now, gradient, then = (np.squeeze(array) for array in (weight, lesson.gradients[name], lesson.weights[name]))
        for place in np.ndindex(now.shape):
            index = f"[{','.join(str(i + 1) for i in place)}]" if place else ""
            change = f"{then[place] - now[place]:.4g}"
            rows.append((name + index, f"{now[place]:.7g}", rounded(gradient[place]), change, f"{then[place]:.7g}"))
    changes = "a step of Adam" if count == 1 else f"{count} steps of Adam"
    yield Table(title, ("weight", "now", "gradient", changes, "then"), rows, {1, 2, 3, 4})


def _bar(fraction: float) -> str:
    """A bar as long as a fraction; none of one that is no number, where Adam has diverged."""
    if not math.isfinite(fraction):
        return ""
    whole, eighths = divmod(round(fraction * _BAR_COLUMNS * 8), 8)
    return "█" * whole + _BAR[eighths - 1] * (eighths > 0)


def kernel_table(cell: str, comparison: Comparison, units: int) -> Table:
    """Every number by hand and by torch's kernel, and their difference."""
    rows = []
    for name, by_hand in comparison.by_hand.items():
        hand, kernel = np.atleast_2d(by_hand), np.atleast_2d(comparison.by_kernel[name])
        for (t, d), one in np.ndenumerate(hand):
            step = str(t + 1) if name == "h" else "last"
            place = "backwards " * (d >= units) + name + f"[{d % units + 1}]" * (units > 1)
            other = kernel[t, d]
            rows.append(
                (step, place, f"{one:.12f}", f"{other:.12f}", f"{abs(one - other):.1e}" if one != other else "0")
            )
    columns = ("step", "state", "by hand", f"torch.nn.{KERNELS[cell]}", "difference")
    return Table("", columns, rows, {0, 2, 3, 4})


def _vector(array: Array, written: Callable[[float], str] = short) -> str:
    numbers = [written(x) for x in array.tolist()]
    return numbers[0] if len(numbers) == 1 else f"[{', '.join(numbers)}]"
