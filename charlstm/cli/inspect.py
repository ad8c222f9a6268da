"""`charlstm inspect`: what the gates of a trained model did on a text. Loads no torch."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm import environment
from charlstm.cli.output import plotting, save, saving
from charlstm.cli.runs import take_run
from charlstm.cli.terminal import RunOption, TrustOption, print_diagnostic, printable, report_errors, write, write_line
from charlstm.cli.waiting import working
from charlstm.errors import SettingsError, TextError

if TYPE_CHECKING:
    from rich.console import Console

    from charlstm.analysis import Inspection
    from charlstm.runs import Checkpoint, Run
    from charlstm.text.vocabulary import Ids


class Colour(StrEnum):
    """When the text is coloured."""

    auto = "auto"
    always = "always"
    never = "never"


@report_errors
def inspect_command(
    text: Annotated[
        str | None,
        typer.Argument(metavar="FILE|-", help="A file, or - for stdin; else the run's own validation text."),
    ] = None,
    run: RunOption = None,
    layer: Annotated[
        int | None,
        typer.Option("--layer", metavar="N", min=0, help="Layer to show, from 0 (default: the unit's, else the last)."),
    ] = None,
    unit: Annotated[
        int | None,
        typer.Option("--unit", metavar="N", min=0, help="Unit to show, from 0 (default: a correlated one)."),
    ] = None,
    trust_sources: TrustOption = False,
    length: Annotated[
        int, typer.Option("--length", metavar="N", min=1, help="Characters to keep the gates of, from the beginning.")
    ] = 5000,
    study: Annotated[
        int, typer.Option("--study", metavar="N", min=1, help="Characters to look for correlated units in.")
    ] = 20000,
    show: Annotated[
        int, typer.Option("--show", metavar="N", min=1, help="Characters to draw in the terminal and in --png.")
    ] = 480,
    units: Annotated[
        bool, typer.Option("--units", help="Print the unit that correlates most with each feature of the text instead.")
    ] = False,
    colour: Annotated[
        Colour,
        typer.Option(
            "--color", help="Colours: always, also in a pipe (less -R); auto, on a terminal without NO_COLOR."
        ),
    ] = Colour.auto,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page to explore.")] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write a picture of one unit.")] = None,
    npz: Annotated[Path | None, typer.Option("--npz", metavar="FILE", help="Write every array, for NumPy.")] = None,
) -> None:
    """Show what each gate did while the model read a text.

    On a terminal: the text coloured by one unit's cell state, with its gates and the surprisal below. In a pipe: one
    tab-separated line a character, the coloured text with --color always. With --html, --png or --npz: the files only.
    """
    if units and (html or png or npz):
        raise SettingsError("--units prints a table, so it goes without --html, --png and --npz: leave one out")
    environment.limit_numpy_threads()
    from charlstm.analysis import (
        LEAST_STUDIED_CHARS,
        choose_unit,
        describe_unit,
        gates_page,
        gates_picture,
        inspect_text,
    )
    from charlstm.cli.texts import split_of, text_of
    from charlstm.text import permissions

    if png is not None:
        plotting("matplotlib", option="--png")  # before the work, not after
    opened, checkpoint = _open(run, layer=layer, unit=unit)
    name = "the run's validation text" if text is None else "standard input" if text == "-" else text
    ids = text_of(opened, text).ids if text is not None else split_of(opened, "val", trust_sources=trust_sources)
    mode = permissions(ids)  # of the text, so of what is made of it
    ids = _first(ids, name=name, unit=opened.vocab.unit, most=max(length, study))
    if length < len(ids) and not units:
        print_diagnostic(f"showing the first {length:,} {opened.vocab.unit}s; --length shows more")
    with working("reading the text through the model"):
        inspection = inspect_text(opened, checkpoint.weights, ids, length=length)
    layer, unit = choose_unit(inspection, layer, unit)
    about, title = describe_unit(inspection, layer=layer, unit=unit), printable(Path(name).name)
    if npz is not None:
        _save_arrays(npz, inspection, mode=mode)
    if png is not None:
        picture = gates_picture(inspection, layer=layer, unit=unit, count=show, title=title)
        save(png, picture, option="--png", about=about, mode=mode)
    if html is not None:
        page = gates_page(inspection, title=title)
        save(html, page, option="--html", about=f"{len(page) / 1e6:.1f} MB, open it in a browser", mode=mode)
    if inspection.studied_chars < LEAST_STUDIED_CHARS:
        few = f"{inspection.studied_chars:,} {opened.vocab.unit}s are too few to tell what a unit follows"
        print_diagnostic(f"{few} ({LEAST_STUDIED_CHARS} are needed), so none is chosen for it")
    if units:
        _print_units(inspection)
    elif html is None and png is None and npz is None:
        print_diagnostic(about)
        _show_unit(inspection, layer=layer, unit=unit, show=show, colour=colour)


def _open(run_folder: Path | None, *, layer: int | None, unit: int | None) -> "tuple[Run, Checkpoint]":
    """The run and its best checkpoint, for a layer and a unit that the model has."""
    from charlstm.runs import read_checkpoint

    run = take_run(run_folder, needs="next")
    model = run.settings.model
    if layer is not None and layer >= model.num_layers:
        raise SettingsError(f"--layer {layer}: the model has {model.num_layers} layers, so 0 to {model.num_layers - 1}")
    if unit is not None and unit >= model.hidden_size:
        raise SettingsError(f"--unit {unit}: a layer has {model.hidden_size} units, so 0 to {model.hidden_size - 1}")
    return run, read_checkpoint(run, "best", model_only=True)


def _first(ids: "Ids", *, name: str, unit: str, most: int) -> "Ids":
    """The first ids of a text, in memory; `name` is for diagnostics."""
    if not len(ids):
        raise TextError(f"{name} is empty; give one with characters in it")
    if len(ids) > most:
        print_diagnostic(f"reading the first {most:,} of {len(ids):,} {unit}s of {name}")
    return ids[:most].copy()


def _print_units(inspection: "Inspection") -> None:
    """The table of correlated units: aligned on a terminal, tab-separated in a pipe."""
    from charlstm.cli.gates_view import UNITS_COLUMNS, units_rows
    from charlstm.cli.tables import Table, print_tables

    rows = units_rows(inspection.correlated_units)
    if sys.stdout.isatty():
        print_tables([], [Table("", UNITS_COLUMNS, rows, {1, 2, 3, 4, 5})])
    else:
        write_line("\n".join("\t".join(row) for row in [UNITS_COLUMNS, *rows]))


def _show_unit(inspection: "Inspection", *, layer: int, unit: int, show: int, colour: Colour) -> None:
    """The coloured text on a terminal, or where colours are asked for; else a table."""
    from charlstm.cli import gates_view

    console = _console(colour)
    if console is None:
        write_line("\n".join(gates_view.table(inspection, layer=layer, unit=unit)))
        return
    write(gates_view.view(inspection, layer=layer, unit=unit, count=show, console=console))
    chars = len(inspection.activity.ids)
    if show < chars:
        print_diagnostic(f"the first {show:,} of {chars:,}; --show draws more, --html all of them")


def _console(colour: Colour) -> "Console | None":
    """What draws on stdout, with colours or without; None for a pipe."""
    from rich.console import Console

    plain: dict[str, Any] = {"file": sys.stdout, "markup": False, "emoji": False, "highlight": False}
    if colour == Colour.always:
        console = Console(force_terminal=True, no_color=False, **plain)
        return console if console.color_system else Console(force_terminal=True, color_system="256", **plain)
    if not (sys.stdout.isatty() and environment.terminal_redraws()):
        return None
    return Console(no_color=True, color_system=None, **plain) if colour == Colour.never else Console(**plain)


def _save_arrays(path: Path, inspection: "Inspection", *, mode: int) -> None:
    import numpy as np

    from charlstm.analysis import inspection_arrays

    arrays: dict[str, Any] = inspection_arrays(inspection)
    values = inspection.activity.values
    with saving(path, option="--npz", mode=mode) as file:
        np.savez(file, **arrays)
    shape = " × ".join(str(size) for size in inspection.activity.shape)
    others = (name for name in arrays if name not in values)
    print_diagnostic(f"{path}: {', '.join(values)} (characters, layers, units: {shape}), {', '.join(others)}")
