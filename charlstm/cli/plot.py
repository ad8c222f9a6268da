"""`charlstm plot`: the training and validation curves of one or several runs. Loads no torch."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm import environment
from charlstm.cli.output import plotting, save
from charlstm.cli.terminal import printable, report_errors, write

if TYPE_CHECKING:
    from charlstm.analysis import Curve

_MARKERS = "ox+*#%@"  # of the validations, a run each
_LINES = ("braille", *".:~=-'")  # of the training, where no colour tells them apart


class Axis(StrEnum):
    """What the curves are drawn against."""

    chars = "chars"
    step = "step"
    seconds = "seconds"


@report_errors
def plot_command(
    run_folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders; else the one in CHARLSTM_RUN, else the newest."),
    ] = None,
    by: Annotated[Axis, typer.Option("--by", help="What the curves are drawn against.")] = Axis.chars,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Write a picture instead of drawing here.")
    ] = None,
) -> None:
    """Draw bits per character, or byte, in training and validation."""
    from charlstm.analysis import curves_picture, read_curve
    from charlstm.runs import find_run

    folders = map(find_run, run_folders or (None,))
    curves = [replace(curve, name=printable(curve.name)) for curve in map(read_curve, folders)]
    if png is None:
        write(_drawn(curves, by=by))
        return
    plotting("matplotlib", option="--png")
    save(png, curves_picture(curves, by=by), option="--png", about=", ".join(curve.name for curve in curves))


def _drawn(curves: "Sequence[Curve]", *, by: str) -> bytes:
    """The curves as lines of characters, coloured if a terminal will show them."""
    from charlstm.analysis import AXES, name_curves

    plotext = plotting("plotext", option="a plot in the terminal")
    colourful = sys.stdout.isatty() and environment.terminal_colours()
    size = shutil.get_terminal_size()
    plotext.clear_figure()
    plotext.theme("clear" if not colourful else "pro")
    plotext.plot_size(size.columns, min(size.lines - 2, 30))
    shown, names = name_curves(curves)
    for number, (curve, name) in enumerate(zip(curves, names, strict=True)):
        colour = ("blue", "orange", "green", "magenta", "cyan", "gray", "white")[number % 7]
        line = "braille" if colourful else _LINES[number % len(_LINES)]
        plotext.plot(*curve.series("train", by=by), label=f"{name}, training", color=colour, marker=line)
        val = curve.series("val", by=by)
        if val[0]:
            marker = _MARKERS[number % len(_MARKERS)]
            plotext.scatter(*val, label=f"{name}, validation", color=f"{colour}+", marker=marker)
    plotext.xlabel(AXES[by])
    plotext.title(shown)
    drawn: str = plotext.build()
    return ((drawn if colourful else plotext.uncolorize(drawn)).rstrip("\n") + "\n").encode()
