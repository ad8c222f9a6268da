"""`charlstm inspect`: what the gates of a trained model did on a text. Loads no torch."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm import environment
from charlstm.cli.output import plotting, save, saving
from charlstm.cli.runs import take_run
from charlstm.cli.terminal import RunOption, print_diagnostic, report_errors, write, write_line
from charlstm.cli.waiting import working
from charlstm.errors import SettingsError, TextError

if TYPE_CHECKING:
    from charlstm.analysis import Inspection
    from charlstm.runs import Checkpoint, Run
    from charlstm.text.vocabulary import Ids


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
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page to explore.")] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write a picture of one unit.")] = None,
    npz: Annotated[Path | None, typer.Option("--npz", metavar="FILE", help="Write every array, for NumPy.")] = None,
) -> None:
    """Show what each gate did while the model read a text.

    On a terminal: the text coloured by one unit's cell state, with its gates and the surprisal below. In a pipe: one
    tab-separated line a character. With --html, --png or --npz: the files only.
    """
    if units and (html or png or npz):
        raise SettingsError("--units prints a table, so it goes without --html, --png and --npz: leave one out")
    environment.limit_numpy_threads()
    from charlstm.analysis import choose_unit, describe_unit, gates_page, gates_picture, inspect_text

    if png is not None:
        plotting("matplotlib", option="--png")  # before the work, not after
    opened, checkpoint = _open(run, layer=layer, unit=unit)
    name = "the run's validation text" if text is None else "standard input" if text == "-" else text
    ids = _ids(text, opened, name=name, most=max(length, study))
    if length < len(ids):
        print_diagnostic(f"showing the first {length:,} {opened.vocab.unit}s; --length shows more")
    with working("reading the text through the model"):
        inspection = inspect_text(opened, checkpoint.weights, ids, length=length)
    layer, unit = choose_unit(inspection, layer, unit)
    about, title = describe_unit(inspection, layer=layer, unit=unit), Path(name).name
    if npz is not None:
        _save_arrays(npz, inspection)
    if png is not None:
        picture = gates_picture(inspection, layer=layer, unit=unit, count=show, title=title)
        save(png, picture, option="--png", about=about)
    if html is not None:
        page = gates_page(inspection, title=title)
        save(html, page, option="--html", about=f"{len(page) / 1e6:.1f} MB, open it in a browser")
    if units:
        from charlstm.cli.gates_view import units_table

        write_line("\n".join(units_table(inspection.correlated_units)))
    elif html is None and png is None and npz is None:
        print_diagnostic(about)
        _show_unit(inspection, layer=layer, unit=unit, show=show)


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


def _ids(text: str | None, run: "Run", *, name: str, most: int) -> "Ids":
    """The first ids of a text of the user's, or of the run's validation text; `name` is for diagnostics."""
    from charlstm.cli.texts import split_of, text_of

    ids = text_of(run, text) if text is not None else split_of(run, "val")
    if not len(ids):
        raise TextError(f"{name} is empty; give one with characters in it")
    if len(ids) > most:
        print_diagnostic(f"reading the first {most:,} of {len(ids):,} {run.vocab.unit}s of {name}")
    return ids[:most]


def _show_unit(inspection: "Inspection", *, layer: int, unit: int, show: int) -> None:
    from charlstm.cli import gates_view

    if sys.stdout is not None and sys.stdout.isatty() and environment.terminal_redraws():
        write(gates_view.view(inspection, layer=layer, unit=unit, count=show, file=sys.stdout))
        chars = len(inspection.activity.ids)
        if show < chars:
            print_diagnostic(f"the first {show:,} of {chars:,}; --show draws more, --html all of them")
        return
    write_line("\n".join(gates_view.table(inspection, layer=layer, unit=unit)))


def _save_arrays(path: Path, inspection: "Inspection") -> None:
    import numpy as np

    from charlstm.analysis import inspection_arrays

    arrays: dict[str, Any] = inspection_arrays(inspection)
    values = inspection.activity.values
    with saving(path, option="--npz") as file:
        np.savez(file, **arrays)
    shape = " × ".join(str(size) for size in inspection.activity.shape)
    others = (name for name in arrays if name not in values)
    print_diagnostic(f"{path}: {', '.join(values)} (characters, layers, units: {shape}), {', '.join(others)}")
