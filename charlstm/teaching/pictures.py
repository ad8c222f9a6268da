"""Pictures of worked examples, drawn with matplotlib (the extra `plot`): gates and state, cells compared, training.

Letters: `T` steps, `H` units.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from charlstm.cells import LETTERS, Array
from charlstm.teaching.worked_example import Lesson
from charlstm.teaching.worksheet import Work

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe & Ito 2008
_MARKERS = "os^Dv*"
_UNIT_STYLES = ("-", "--", ":", "-.")


def work_picture(work: Work, *, title: str) -> Figure:
    """The gates of a cell at every step, above its state before the first step and after each."""
    steps = work.steps
    figure, gates, state = _figure(title)
    first, *_ = steps
    for direction in dict.fromkeys(step.direction for step in steps):
        read = [step for step in steps if step.direction == direction]  # in the order in which it reads
        places, called = [step.number for step in read], ", backwards" * bool(direction)
        before = places[0] + (1 if direction else -1)
        for k, letter in enumerate(first.gates):
            values = [step.gates[letter] for step in read]
            _draw(gates, places, values, LETTERS[letter].name + called, k, faint=bool(direction))
        for k, letter in enumerate(first.state, len(first.gates)):
            values = [read[0].state[letter], *(step.new_state[letter] for step in read)]
            _draw(state, [before, *places], values, letter + called, k, faint=bool(direction))
    signed = any((gate < 0).any() for step in steps for gate in step.gates.values())
    gates.set(ylim=(-1.05 if signed else -0.05, 1.05), ylabel="gates and candidate")
    state.axhline(0, color="#8a8f9c", linewidth=0.8)
    state.set_ylabel("state")
    return figure


def comparison_picture(works: Mapping[str, Work], gradients: Mapping[str, Array], *, title: str) -> Figure:
    """h of several cells, above the gradient (T, 1) of the last output by each input, on a logarithmic scale."""
    figure, state, gradient = _figure(title)
    for k, (cell, work) in enumerate(works.items()):
        steps = range(1, len(work.steps) + 1)
        _draw(state, steps, [step.new_state["h"] for step in work.steps], cell, k)
        sizes = np.abs(gradients[cell])
        label = f"{cell}, {gradients[cell][0, 0]:.2g} at step 1"
        _draw(gradient, steps, np.where(sizes > 0, sizes, np.nan), label, k)
    state.axhline(0, color="#8a8f9c", linewidth=0.8)
    state.set_ylabel("h")
    gradient.set(yscale="log", ylabel="gradient of the last output\nby the input of the step (size)")
    return figure


def lesson_picture(lessons: Mapping[str, Lesson], target: Array, *, title: str) -> Figure:
    """The last output of each cell while it is taught, above the squared error on a logarithmic scale."""
    figure, output, error = _figure(title)
    for k, (cell, lesson) in enumerate(lessons.items()):
        steps = range(len(lesson.squared_errors))
        _draw(output, steps, lesson.outputs, cell, k, marked=False)
        errors = np.array(lesson.squared_errors)
        _draw(error, steps, np.where(errors > 0, errors, np.nan)[:, None], cell, k, marked=False)
    for value in target:
        output.axhline(value, color="#8a8f9c", linewidth=0.8, linestyle="--")
    output.set_ylabel("output, target dashed")
    error.set(yscale="log", ylabel="squared error", xlabel="steps of Adam")
    return figure


def _figure(title: str) -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(9, 6), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    above, below = figure.subplots(2, 1, sharex=True)
    for axes in (above, below):
        axes.grid(color="#d9dce3", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    below.set_xlabel("step")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, above, below


def _draw(
    axes: Axes,
    steps: Sequence[int],
    values: Sequence[Array] | Array,
    name: str,
    k: int,
    *,
    marked: bool = True,
    faint: bool = False,
) -> None:
    """A line for each unit: values (len(steps), H)."""
    lines = np.array(values).T
    for unit, line in enumerate(lines):
        label = name if len(lines) == 1 else f"{name} {unit + 1}"
        style = _UNIT_STYLES[unit % len(_UNIT_STYLES)]
        marker, alpha = _MARKERS[k] if marked else None, 0.45 if faint else 1.0
        axes.plot(steps, line, style, color=_COLOURS[k], marker=marker, markersize=5, alpha=alpha, label=label)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
