"""Still pictures, drawn with matplotlib (the extra `plot`): what a unit did, and the curves of runs.

Letters: `T` characters.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from charlstm.analysis.curves import AXES, Curve
from charlstm.analysis.gates import Trace

_SIGNED = LinearSegmentedColormap.from_list("minus-plus", ["#5aa5e6", "#ffffff", "#f59e42"])
_GATE = LinearSegmentedColormap.from_list("shut-open", ["#ffffff", "#f59e42"])
_RUN_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe & Ito 2008
_LINE_CHARS = 80


def gates_picture(trace: Trace, symbols: Sequence[str], *, layer: int, unit: int, count: int, title: str) -> Figure:
    """Lines of text, each coloured by the unit's memory, with its surprise above and its gates below.

    symbols: the visible form of each of the T characters, of which the first `count` are drawn.
    """
    lines = [range(start, min(start + _LINE_CHARS, count)) for start in range(0, count, _LINE_CHARS)]
    figure = Figure(figsize=(13, 0.6 + 1.55 * len(lines)), layout="constrained")
    figure.suptitle(textwrap.fill(title, 110), x=0.01, ha="left", fontsize=11, parse_math=False)
    axes = figure.subplots(2 * len(lines), 1, squeeze=False, height_ratios=[0.5, 1.0] * len(lines))[:, 0]
    rows = [trace.memory, *(name for name in trace.values if name != trace.memory)]
    largest = {name: 1.0 if name in trace.gates else _largest(trace, name, layer, unit) for name in rows}
    most_bits = max(float(np.nanmax(trace.surprise[:count], initial=0.0)), 1.0)
    for line, above, below in zip(lines, axes[0::2], axes[1::2], strict=True):
        above.bar(range(len(line)), np.nan_to_num(trace.surprise[line.start : line.stop]), color="#5a6070", width=0.8)
        above.set(xlim=(-0.5, _LINE_CHARS - 0.5), ylim=(0, most_bits), ylabel="bits", xticks=[])
        above.spines[["top", "right", "bottom"]].set_visible(False)
        for row, name in enumerate(rows):
            values = trace.values[name][line.start : line.stop, layer, unit][None] / largest[name]
            is_gate = name in trace.sigmoid_gates
            extent = (-0.5, len(line) - 0.5, row + 0.5, row - 0.5)
            colours, low = (_GATE, 0) if is_gate else (_SIGNED, -1)
            below.imshow(values, cmap=colours, vmin=low, vmax=1, aspect="auto", extent=extent, interpolation="nearest")
        _label(below, [symbols[t] for t in line], rows)
    return figure


def curves_picture(curves: Sequence[Curve], *, by: str) -> Figure:
    """Training (thin) and validation (thick) bits per character of each run, a colour a run."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for number, curve in enumerate(curves):
        colour = _RUN_COLOURS[number % len(_RUN_COLOURS)]
        train_x, train_y = curve.series("train", by=by)
        axes.plot(train_x, train_y, color=colour, linewidth=0.8, alpha=0.6, label=f"{curve.name}, training")
        val_x, val_y = curve.series("val", by=by)
        if val_x:
            axes.plot(val_x, val_y, "o-", color=colour, linewidth=2, markersize=4, label=f"{curve.name}, validation")
    axes.set(xlabel=AXES[by], ylabel="bits per character")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.grid(color="#d9dce3", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    for text in axes.legend(frameon=False).get_texts():
        text.set_parse_math(False)
    return figure


def _label(axes: Axes, symbols: Sequence[str], rows: Sequence[str]) -> None:
    axes.set(xlim=(-0.5, _LINE_CHARS - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for x, symbol in enumerate(symbols):
        axes.text(x, 0, symbol, ha="center", va="center", family="DejaVu Sans Mono", fontsize=9, parse_math=False)


def _largest(trace: Trace, name: str, layer: int, unit: int) -> float:
    return max(float(np.abs(trace.values[name][:, layer, unit]).max()), 1e-6)
