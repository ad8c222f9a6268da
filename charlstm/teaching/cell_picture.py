"""A picture of one step of a cell with its numbers, drawn with matplotlib (the extra `plot`).

The state flows from left to right, what the gates see comes from below. A box is a gate or the candidate with what it
sees and gives, a circle is applied number by number, a dashed line is a peephole. It can be read when printed in black.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Outline

from charlstm.cells import CELLS, LETTERS, Array
from charlstm.teaching.worked_example import WorkedStep
from charlstm.teaching.worksheet import Stage, Work, short

Point: TypeAlias = tuple[float, float]

_INK, _SOFT = "#16181d", "#5a6070"
_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
_FILL = {"sigmoid": "#fdebd8", "tanh": "#e0eefa"}
_BELOW, _GATES, _MIDDLE, _ABOVE = 0.8, 3.0, 5.4, 7.6  # heights
_HALF_WIDTH, _HALF_HEIGHT, _RADIUS = 1.55, 1.05, 0.4
_MOST_SHOWN = 3  # units whose numbers are written out


def cell_picture(cell: str, work: Work, *, title: str) -> Figure:
    """The cell at every step of the work, one below the other; made for a work of one step."""
    draw, right, top = _PLANS["".join(CELLS[cell].gates)]
    figure = Figure(figsize=(0.48 * (right + 2), 0.5 + 0.5 * (top + 1) * len(work.steps)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    panels = figure.subplots(len(work.steps), squeeze=False)[:, 0]
    for axes, step, stages in zip(panels, work.steps, work.stages, strict=True):
        axes.set(xlim=(-1.6, right), ylim=(-0.8, top), aspect="equal")
        axes.axis("off")
        if len(work.steps) > 1:
            axes.set_title(step.title, loc="left", fontsize=10)
        pen = _Pen(axes, {stage.name: stage for stage in stages})
        draw(pen, step)
        for letter, values in step.state.items():
            height = _ABOVE if letter == "c" else _BELOW
            pen.write(f"{letter} = {_numbers(values)}", (-1.3, height + 0.35), bold=True)
        if cell.startswith("peephole"):
            _draw_peepholes(pen, sees_new_c=cell == "peephole")
    return figure


@dataclass(frozen=True)
class _Pen:
    """Draws the parts of a cell; a stage's numbers are those of the work."""

    axes: Axes
    stages: Mapping[str, Stage]

    def gate(self, name: str, at: Point) -> None:
        """A box with what the gate sees and gives."""
        stage, (x, y) = self.stages[name], at
        corner = (x - _HALF_WIDTH, y - _HALF_HEIGHT)
        shape = FancyBboxPatch(corner, 2 * _HALF_WIDTH, 2 * _HALF_HEIGHT, boxstyle="round,pad=0,rounding_size=0.15")
        shape.set(facecolor=_FILL[stage.activation], edgecolor=_INK, linewidth=1.2, zorder=3)
        self.axes.add_patch(shape)
        seen = f"({_numbers(stage.totals)})" if len(stage.totals) == 1 else ""
        verb = next((letter.verb for letter in LETTERS.values() if f"{letter.name}_gate" == name and letter.verb), "")
        lines = [
            name.replace("_", " "),
            f"{'σ' if stage.activation == 'sigmoid' else 'tanh'}{seen} =",
            _numbers(stage.value),
            f"{stage.value[0]:.1%} {verb}" if verb and len(stage.value) == 1 else verb,
        ]
        for row, line in enumerate(lines):
            style: dict[str, Any] = {"weight": "bold"} if row in (0, 2) else {"color": _SOFT}
            size = 9 if len(line) < 14 else 6.5
            self.axes.text(x, y + 0.7 - row * 0.47, line, ha="center", va="center", fontsize=size, zorder=4, **style)

    def circle(self, sign: str, at: Point) -> None:
        self.axes.add_patch(Circle(at, _RADIUS, facecolor="white", edgecolor=_INK, linewidth=1.2, zorder=3))
        size = 13 if len(sign) == 1 else 7
        self.axes.text(*at, sign, ha="center", va="center_baseline", fontsize=size, zorder=4)

    def line(self, *points: Point, dashed: bool = False) -> None:
        """An arrow along the points; it ends at the edge of what stands at the last one if that is a circle."""
        style = {"linestyle": (0, (4, 3)), "color": _SOFT} if dashed else {"color": _INK}
        arrow = FancyArrowPatch(path=Outline(points), arrowstyle="-|>", mutation_scale=11, shrinkA=0, shrinkB=0)
        arrow.set(linewidth=1.2, zorder=1, joinstyle="miter", **style)
        self.axes.add_patch(arrow)

    def write(self, text: str, at: Point, *, bold: bool = False) -> None:
        weight = "bold" if bold else "normal"
        size = 10 if len(text) < 24 else 7
        self.axes.text(
            *at, text, ha="left", va="center", fontsize=size, weight=weight, color=_INK, parse_math=False, bbox=_WHITE
        )

    def label(self, name: str, at: Point, *, bold: bool = False) -> None:
        """The name of a stage and its numbers."""
        self.write(f"{name.replace('_', ' ')} = {_numbers(self.stages[name].value)}", at, bold=bold)

    def feed(self, step: WorkedStep, *columns: float) -> None:
        """h and x, from the left and from below, to what stands in these columns."""
        for x in columns:
            self.line((-1.5, _BELOW), (x, _BELOW), (x, _GATES - _HALF_HEIGHT))
        self.line((0.6, -0.5), (0.6, _BELOW))
        self.write(f"x = {_numbers(step.x)}", (0.85, -0.35), bold=True)

    def end(self, at: Point) -> None:
        """The new h where it leaves the cell, and the readout."""
        self.label("new_h", at, bold=True)
        if "readout" in self.stages:
            self.label("readout", (at[0], at[1] - 1.3), bold=True)


def _draw_lstm(pen: _Pen, step: WorkedStep) -> None:
    f, i, g, o, out = 2.6, 6.0, 9.4, 12.8, 15.2
    pen.feed(step, f, i, g, o)
    for name, x in (("forget_gate", f), ("input_gate", i), ("candidate", g), ("output_gate", o)):
        pen.gate(name, (x, _GATES))
    top, tanh, shown = _GATES + _HALF_HEIGHT, 6.3, 4.7
    pen.line((-1.5, _ABOVE), (f - _RADIUS, _ABOVE))
    pen.line((f + _RADIUS, _ABOVE), (g - _RADIUS, _ABOVE))
    pen.line((g + _RADIUS, _ABOVE), (20.2, _ABOVE))
    pen.line((f, top), (f, _ABOVE - _RADIUS))
    pen.line((i, top), (i, _MIDDLE), (g - _RADIUS, _MIDDLE))
    pen.line((g, top), (g, _MIDDLE - _RADIUS))
    pen.line((g, _MIDDLE + _RADIUS), (g, _ABOVE - _RADIUS))
    pen.line((out, _ABOVE), (out, tanh + _RADIUS))
    pen.line((out, tanh - _RADIUS), (out, shown + _RADIUS))
    pen.line((o, top), (o, shown), (out - _RADIUS, shown))
    pen.line((out, shown - _RADIUS), (out, _BELOW), (20.2, _BELOW))
    for sign, at in (
        ("×", (f, _ABOVE)),
        ("×", (g, _MIDDLE)),
        ("+", (g, _ABOVE)),
        ("tanh", (out, tanh)),
        ("×", (out, shown)),
    ):
        pen.circle(sign, at)
    pen.label("c_kept", (f + 0.8, _ABOVE + 0.35))
    pen.label("c_written", (g + 0.25, 6.4))
    pen.label("tanh_c", (out + 0.25, 5.5))
    pen.label("new_c", (out + 0.1, _ABOVE + 0.35), bold=True)
    pen.end((out + 0.25, _BELOW + 0.35))


def _draw_peepholes(pen: _Pen, *, sees_new_c: bool) -> None:
    """To the gates from the cell state: the old one, and the output gate from the new one if that is what it sees."""
    start, height = -0.6, 4.6
    columns = (2.6, 6.0) if sees_new_c else (2.6, 6.0, 12.8)
    for x in columns:
        pen.line((start, _ABOVE), (start, height), (x - 0.9, height), (x - 0.9, _GATES + _HALF_HEIGHT), dashed=True)
    if sees_new_c:
        pen.line((11.9, _ABOVE), (11.9, _GATES + _HALF_HEIGHT), dashed=True)


def _draw_gru(pen: _Pen, step: WorkedStep) -> None:
    r, z, reset, n = 2.6, 6.2, 9.0, 12.0
    top = _GATES + _HALF_HEIGHT
    pen.feed(step, r, z, n)
    for name, x in (("reset_gate", r), ("update_gate", z), ("candidate", n)):
        pen.gate(name, (x, _GATES))
    pen.line((reset, _BELOW), (reset, _GATES - _RADIUS))
    pen.line((r, top), (r, 4.5), (reset, 4.5), (reset, _GATES + _RADIUS))
    pen.line((reset + _RADIUS, _GATES), (n - _HALF_WIDTH, _GATES))
    pen.line((-1.5, _BELOW), (-1.5, _ABOVE), (z - _RADIUS, _ABOVE))
    pen.line((z + _RADIUS, _ABOVE), (n - _RADIUS, _ABOVE))
    pen.line((n + _RADIUS, _ABOVE), (19.2, _ABOVE))
    pen.line((z, top), (z, _ABOVE - _RADIUS))
    pen.line((z, _MIDDLE), (reset - _RADIUS, _MIDDLE))
    pen.line((reset + _RADIUS, _MIDDLE), (n - _RADIUS, _MIDDLE))
    pen.line((n, top), (n, _MIDDLE - _RADIUS))
    pen.line((n, _MIDDLE + _RADIUS), (n, _ABOVE - _RADIUS))
    for sign, at in (
        ("×", (z, _ABOVE)),
        ("+", (n, _ABOVE)),
        ("×", (n, _MIDDLE)),
        ("1 −", (reset, _MIDDLE)),
        ("×", (reset, _GATES)),
    ):
        pen.circle(sign, at)
    pen.write("from h", (reset + 0.15, 1.6))
    pen.label("h_kept", (z + 0.8, _ABOVE + 0.35))
    pen.label("h_written", (n + 0.25, 6.5))
    pen.end((n + 3.4, _ABOVE + 0.35))


def _draw_rnn(pen: _Pen, step: WorkedStep) -> None:
    n = 5.0
    pen.feed(step, n)
    pen.gate("candidate", (n, _GATES))
    pen.line((n, _GATES + _HALF_HEIGHT), (n, _MIDDLE), (n + 6.0, _MIDDLE))
    pen.end((n + 1.0, _MIDDLE + 0.35))


_PLANS = {"ifgo": (_draw_lstm, 20.4, 8.6), "rzn": (_draw_gru, 19.4, 8.6), "n": (_draw_rnn, 13.0, 6.4)}  # right, top


def _numbers(values: Array | Sequence[float]) -> str:
    """A number, or those of the first units."""
    shown = [short(value) for value in values]
    if len(shown) == 1:
        return shown[0]
    return f"[{', '.join(shown[:_MOST_SHOWN])}{', …' * (len(shown) > _MOST_SHOWN)}]"
