"""Still pictures as PNG, drawn with matplotlib (the extra `plot`): what a unit did, and the curves of runs.

Letters: `T` characters.
"""

import io
import textwrap
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from charlstm.analysis.curves import AXES, Curve, name_curves
from charlstm.analysis.inspection import Inspection, describe_unit

if TYPE_CHECKING:  # matplotlib is optional, so it is loaded by the functions that draw
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WHITE, _PLUS, _MINUS = "#ffffff", "#f59e42", "#5aa5e6"  # those of the page
_RUN_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe & Ito 2008
_RUN_MARKERS = "os^Dv*P"  # which tell runs apart where colours do not
_LINE_CHARS = 80


def gates_picture(inspection: Inspection, *, layer: int, unit: int, count: int, title: str) -> bytes:
    """Draw the first `count` characters, coloured by a unit's memory, with the surprisal above and the gates below.

    title: what was read. Returns a PNG file.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    signed = LinearSegmentedColormap.from_list("minus-plus", [_MINUS, _WHITE, _PLUS])
    sigmoid = LinearSegmentedColormap.from_list("shut-open", [_WHITE, _PLUS])
    activity, symbols = inspection.activity, inspection.symbols[:count]
    lines = [range(start, min(start + _LINE_CHARS, len(symbols))) for start in range(0, len(symbols), _LINE_CHARS)]
    figure = Figure(figsize=(13, 0.6 + 1.55 * len(lines)), layout="constrained")
    heading = textwrap.fill(
        f"{title} · {describe_unit(inspection, layer=layer, unit=unit)}", 110, break_on_hyphens=False
    )
    figure.suptitle(heading, x=0.01, ha="left", fontsize=11, parse_math=False)
    axes = figure.subplots(2 * len(lines), 1, squeeze=False, height_ratios=[0.5, 1.0] * len(lines))[:, 0]
    of_unit = activity.of_unit(layer, unit)
    most_bits = max(float(activity.surprisal[:count].max()), 1.0)
    for line, above, below in zip(lines, axes[0::2], axes[1::2], strict=True):
        bits = activity.surprisal[line.start : line.stop]
        above.bar(range(len(line)), bits, color="#5a6070", width=0.8)
        above.set(xlim=(-0.5, _LINE_CHARS - 0.5), ylim=(0, most_bits), ylabel="bits", xticks=[])
        above.spines[["top", "right", "bottom"]].set_visible(False)
        for row, (name, values) in enumerate(of_unit.items()):
            extent = (-0.5, len(line) - 0.5, row + 0.5, row - 0.5)
            colours, low = (sigmoid, 0) if name in activity.sigmoid_gates else (signed, -1)
            shown = values[None, line.start : line.stop]
            below.imshow(shown, cmap=colours, vmin=low, vmax=1, aspect="auto", extent=extent, interpolation="nearest")
        _label(below, [symbols[t] for t in line], list(of_unit))
    return _png(figure)


def curves_picture(curves: Sequence[Curve], *, by: str) -> bytes:
    """Draw the training (thin) and validation (thick) bits of each run, a colour and a marker a run.

    by: one of AXES. Returns a PNG file.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    shown, names = name_curves(curves)
    for number, (curve, name) in enumerate(zip(curves, names, strict=True)):
        colour = _RUN_COLOURS[number % len(_RUN_COLOURS)]
        train_x, train_y = curve.series("train", by=by)
        axes.plot(train_x, train_y, color=colour, linewidth=0.8, alpha=0.6, label=f"{name}, training")
        val_x, val_y = curve.series("val", by=by)
        if val_x:
            marker = _RUN_MARKERS[number % len(_RUN_MARKERS)]
            axes.plot(val_x, val_y, f"{marker}-", color=colour, linewidth=2, markersize=5, label=f"{name}, validation")
    axes.set(xlabel=AXES[by], ylabel=shown)
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.grid(color="#d9dce3", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    for text in axes.legend(frameon=False).get_texts():
        text.set_parse_math(False)
    return _png(figure)


def _label(axes: "Axes", symbols: Sequence[str], names: Sequence[str]) -> None:
    axes.set(xlim=(-0.5, _LINE_CHARS - 0.5), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for x, symbol in enumerate(symbols):
        axes.text(x, 0, symbol, ha="center", va="center", family="DejaVu Sans Mono", fontsize=9, parse_math=False)


def _png(figure: "Figure") -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box is drawn in its place
        figure.savefig(file, dpi=130)
    return file.getvalue()
