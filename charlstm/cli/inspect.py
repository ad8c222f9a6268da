"""`charlstm inspect`: what the gates of a trained model did on a text. Loads no torch."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm import environment
from charlstm.cli.output import plotting, saving
from charlstm.cli.terminal import RunOption, one_sentence, say, write, write_line
from charlstm.errors import RunError, SettingsError, TextError

if TYPE_CHECKING:
    from charlstm.analysis.correlated_units import Follower, Marks
    from charlstm.analysis.gates import Trace
    from charlstm.inference import Engine
    from charlstm.runs.folder import Run
    from charlstm.text.vocabulary import Ids


@one_sentence
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
        typer.Option("--unit", metavar="N", min=0, help="Unit to show, from 0 (default: one that follows something)."),
    ] = None,
    length: Annotated[
        int, typer.Option("--length", metavar="N", min=1, help="Characters to keep the gates of, from the beginning.")
    ] = 5000,
    study: Annotated[
        int, typer.Option("--study", metavar="N", min=1, help="Characters to look in for units that follow something.")
    ] = 20000,
    show: Annotated[
        int, typer.Option("--show", metavar="N", min=1, help="Characters to draw in the terminal and in --png.")
    ] = 480,
    units: Annotated[
        bool, typer.Option("--units", help="Print which unit follows what, instead of the text; tab-separated.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page to explore.")] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write a picture of one unit.")] = None,
    npz: Annotated[Path | None, typer.Option("--npz", metavar="FILE", help="Write every array, for NumPy.")] = None,
) -> None:
    """Show what each gate did while the model read a text.

    On a terminal: the text coloured by one unit's cell state, with its gates and the surprise below. In a pipe: one
    tab-separated line a character. With --html, --png or --npz: the files only.
    """
    if units and (html or png or npz):
        raise SettingsError("--units prints a table, so it goes without --html, --png and --npz: leave one out")
    inspect(
        text,
        run,
        layer=layer,
        unit=unit,
        length=length,
        study=study,
        show=show,
        units=units,
        html=html,
        png=png,
        npz=npz,
    )


def inspect(
    text: str | None,
    run_folder: Path | None,
    *,
    layer: int | None,
    unit: int | None,
    length: int,
    study: int,
    show: int,
    units: bool,
    html: Path | None,
    png: Path | None,
    npz: Path | None,
) -> None:
    """Read a text through a run's best checkpoint; write what the gates did to stdout or into the files named."""
    environment.limit_numpy_threads()
    from charlstm.analysis.correlated_units import followers, text_marks
    from charlstm.analysis.gates import read_memory, record, text_of

    if png is not None:
        plotting("matplotlib", option="--png")  # before the work, not after
    run, engine, progress = _open(run_folder, layer=layer, unit=unit)
    ids = _ids(text, run, progress, length=max(length, study))
    trace = record(engine, ids[:length])
    if length < len(ids):
        say(f"showing the first {length:,} {run.vocab.unit}s; --length shows more")
    marks = text_marks(text_of(run.vocab, ids))
    memory = trace.values[trace.memory] if len(ids) <= length else read_memory(engine, ids)
    found = followers(memory, marks)
    layer, unit = _choose(found, layer, unit, layers=engine.num_layers)
    title = "the run's validation text" if text is None else "standard input" if text == "-" else Path(text).name
    if npz is not None:
        _write_arrays(npz, trace, text_of(run.vocab, trace.ids))
    if png is not None:
        _write_picture(png, trace, run, found, layer=layer, unit=unit, show=show, title=title)
    if html is not None:
        shown_marks = {name: mark[:length] for name, mark in marks.items()}
        _write_page(html, trace, run, marks=shown_marks, found=found, studied=len(ids), title=title)
    if html is None and png is None and npz is None:
        _print(trace, run, found, layer=layer, unit=unit, show=show, units=units)


def _open(run_folder: Path | None, *, layer: int | None, unit: int | None) -> "tuple[Run, Engine, dict[str, Any]]":
    """The run, its best checkpoint ready to read, and that one's progress; a layer and unit given must be there."""
    from charlstm.inference import Engine
    from charlstm.runs import checkpoints
    from charlstm.runs import folder as runs

    run = runs.open_run(runs.find_run(run_folder or environment.run_folder()))
    model = run.settings.model
    if model.objective != "next":
        raise RunError(
            f"{run.folder} was trained to fill gaps, but inspect follows a model that reads on: name another"
        )
    if layer is not None and layer >= model.num_layers:
        raise SettingsError(f"--layer {layer}: the model has {model.num_layers} layers, so 0 to {model.num_layers - 1}")
    if unit is not None and unit >= model.hidden_size:
        raise SettingsError(f"--unit {unit}: a layer has {model.hidden_size} units, so 0 to {model.hidden_size - 1}")
    checkpoint = checkpoints.read_checkpoint(run, "best", model_only=True)
    return run, Engine(checkpoint.weights, model), checkpoint.progress


def _ids(text: str | None, run: "Run", progress: dict[str, Any], *, length: int) -> "Ids":
    """The first ids of a text of the user's, or of the run's validation text."""
    from charlstm.cli.text import split_ids_of_run, text_ids

    ids = text_ids(text, run) if text is not None else split_ids_of_run(run, "val", progress)
    what = "the run's validation text" if text is None else "standard input" if text == "-" else text
    if not len(ids):
        raise TextError(f"{what} is empty; give one with characters in it")
    if len(ids) > length:
        say(f"reading the first {length:,} of {len(ids):,} {run.vocab.unit}s of {what}")
    return ids[:length]


def _choose(found: "Sequence[Follower]", layer: int | None, unit: int | None, *, layers: int) -> tuple[int, int]:
    """The layer and unit to show: those given, else the best that follows something, else the last layer's first."""
    if unit is None:
        for follower in found:
            if layer in {None, follower.layer} and follower.agreement > follower.chance:
                return follower.layer, follower.unit
    return layers - 1 if layer is None else layer, unit or 0


def _print(
    trace: "Trace", run: "Run", found: "Sequence[Follower]", *, layer: int, unit: int, show: int, units: bool
) -> None:
    from charlstm.analysis.gates import visible_symbols
    from charlstm.cli import gates_view

    if units:
        for line in gates_view.followers_table(found):
            write_line(line)
        return
    say(gates_view.heading(trace, found, layer=layer, unit=unit))
    vocab_symbols = visible_symbols(run.vocab)
    symbols = [vocab_symbols[symbol_id] for symbol_id in trace.ids]
    if sys.stdout is not None and sys.stdout.isatty() and environment.terminal_redraws():
        write(gates_view.view(trace, symbols, layer=layer, unit=unit, count=show, file=sys.stdout))
        if show < len(symbols):
            say(f"the first {show:,} of {len(symbols):,}; --show draws more, --html all of them")
        return
    lines = gates_view.table(trace, symbols, vocab_symbols, layer=layer, unit=unit)
    write("".join(f"{line}\n" for line in lines).encode())


def _write_arrays(path: Path, trace: "Trace", text: str) -> None:
    import numpy as np

    arrays: dict[str, Any] = {
        "ids": trace.ids,
        "text": np.array(text),
        "surprise": trace.surprise,
        "guess_ids": trace.guess_ids,
        "guess_probs": trace.guess_probs,
        **trace.values,
    }
    with saving(path, option="--npz") as file:
        np.savez(file, **arrays)
    shape = " × ".join(str(size) for size in trace.shape)
    say(f"{path}: {', '.join(trace.values)} (characters, layers, units: {shape}), {', '.join(list(arrays)[:5])}")


def _write_page(
    path: Path, trace: "Trace", run: "Run", *, marks: "Marks", found: "Sequence[Follower]", studied: int, title: str
) -> None:
    from charlstm.analysis.page import gates_page

    model = run.settings.model
    about = f"{model.cell} {model.num_layers} × {model.hidden_size}, run {run.folder.resolve().name}"
    page = gates_page(trace, run.vocab, marks=marks, followers=found, studied=studied, title=title, model=about)
    with saving(path, option="--html") as file:
        file.write(page)
    say(f"{path}: {len(page) / 1e6:.1f} MB, open it in a browser")


def _write_picture(
    path: Path, trace: "Trace", run: "Run", found: "Sequence[Follower]", *, layer: int, unit: int, show: int, title: str
) -> None:
    import warnings

    from charlstm.analysis.gates import visible_symbols
    from charlstm.analysis.pictures import gates_picture
    from charlstm.cli.gates_view import heading

    vocab_symbols = visible_symbols(run.vocab)
    symbols = [vocab_symbols[symbol_id] for symbol_id in trace.ids]
    about = f"{title} · {heading(trace, found, layer=layer, unit=unit)}"
    with warnings.catch_warnings(), saving(path, option="--png") as file:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box is drawn in its place
        count = min(show, len(symbols))
        gates_picture(trace, symbols, layer=layer, unit=unit, count=count, title=about).savefig(file, dpi=130)
    say(f"{path}: {heading(trace, found, layer=layer, unit=unit)}")
