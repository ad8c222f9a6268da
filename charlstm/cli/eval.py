"""`charlstm eval`: how well a model predicts a text."""

from enum import StrEnum
from typing import Annotated

import typer

from charlstm.cli.runs import take_run
from charlstm.cli.terminal import RunOption, report_errors, write_line
from charlstm.cli.waiting import working
from charlstm.errors import SettingsError


class Split(StrEnum):
    """The parts of a run's own text."""

    train = "train"
    val = "val"
    test = "test"


class ProtocolName(StrEnum):
    """How a next-character model reads the text; see `evaluation.protocols`."""

    stream = "stream"
    windows = "windows"


FORMATS = (".4f", ".4f", ".3f", ".2%")  # of loss, bits per character, perplexity and accuracy


@report_errors
def eval_command(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="A file, folder, glob or corpus, - for stdin; else the run's own text."),
    ] = None,
    run_folder: RunOption = None,
    split: Annotated[Split | None, typer.Option("--split", help="Part of the run's own text (default val).")] = None,
    protocol: Annotated[
        ProtocolName | None,
        typer.Option(
            "--protocol", help="stream (default) carries the state; windows starts anew every 256 characters."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Measure loss, bits per character, perplexity and accuracy."""
    if text is not None and split is not None:
        raise SettingsError("--split names a part of the run's own text: give it or TEXT, not both")
    from charlstm.api import evaluate
    from charlstm.cli.texts import split_of, text_of

    run = take_run(run_folder)
    part = str(split or Split.val) if text is None else None
    ids = text_of(run, text) if text is not None else split_of(run, str(part))
    with working(f"measuring {len(ids):,} {run.vocab.unit}s"):
        evaluation = evaluate(run, ids, protocol=protocol)
    figures = evaluation.figures
    if as_json:
        import json

        facts = {
            "chars": evaluation.tally.chars,
            "protocol": evaluation.protocol,
            "lanes": evaluation.lanes,
            "reread_chars": evaluation.reread_chars,
            "split": part,
        }
        write_line(json.dumps(figures | facts))
        return
    for (name, value), form in zip(figures.items(), FORMATS, strict=True):
        write_line(f"{name:<20} {value:{form}}")
    write_line(f"{'chars':<20} {evaluation.tally.chars:,}")
    write_line(f"{'protocol':<20} {evaluation.protocol}")
    again = f", {evaluation.reread_chars:,} characters read twice" if evaluation.reread_chars else ""
    write_line(f"{'lanes':<20} {evaluation.lanes}{again}")
    write_line(f"{'text':<20} {text if text is not None else f'{part} split of the run'}")
