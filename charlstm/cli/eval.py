"""`charlstm eval`: how well a model predicts a text."""

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from charlstm.cli.runs import take_run
from charlstm.cli.terminal import RunOption, TrustOption, report_errors, write_json, write_line
from charlstm.cli.waiting import working
from charlstm.errors import SettingsError

if TYPE_CHECKING:
    from charlstm.evaluation import Evaluation
    from charlstm.runs import Run
    from charlstm.text import EncodedText


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
WIDTHS = (8, 8, 10, 8)  # of their columns in a table


@report_errors
def eval_command(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...",
            help="Files, folders, globs, corpora, -: a row each; else the run's own text.",
        ),
    ] = None,
    run_folder: RunOption = None,
    split: Annotated[Split | None, typer.Option("--split", help="Part of the run's own text (default val).")] = None,
    protocol: Annotated[
        ProtocolName | None,
        typer.Option(
            "--protocol", help="stream (default) carries the state; windows starts anew every 256 characters."
        ),
    ] = None,
    trust_sources: TrustOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row instead of lines.")] = False,
) -> None:
    """Measure loss, bits per character, perplexity and accuracy."""
    if texts and split is not None:
        raise SettingsError("--split names a part of the run's own text: give it or TEXT, not both")
    from charlstm.cli.texts import split_of, text_of
    from charlstm.text import EncodedText

    run = take_run(run_folder)
    if not texts:
        part = str(split or Split.val)
        rows = [
            _measure(run, EncodedText(split_of(run, part, trust_sources=trust_sources), 0, ()), None, part, protocol)
        ]
    else:
        rows = [_measure(run, text_of(run, text), text, None, protocol) for text in texts]
    if len(rows) > 1:
        rows.append(_Row(None, None, sum(row.unknown_chars for row in rows), _total([row.evaluation for row in rows])))
    if as_json:
        for row in rows:
            write_json(_fields(run, row, count=len(rows) - 1))
    elif len(rows) > 1:
        _write_table(rows)
    else:
        _write_lines(run, rows[0])


class _Row(NamedTuple):
    """A text, or a split of the run's own, or with neither all texts; and what was measured on it."""

    text: str | None
    split: str | None
    unknown_chars: int
    evaluation: "Evaluation"


def _measure(
    run: "Run", text: "EncodedText", source: str | None, split: str | None, protocol: ProtocolName | None
) -> _Row:
    from charlstm.api import evaluate

    with working(f"measuring {len(text.ids):,} {run.vocab.unit}s"):
        return _Row(source, split, text.unknown_chars, evaluate(run, text.ids, protocol=protocol))


def _total(evaluations: "Sequence[Evaluation]") -> "Evaluation":
    """All characters as one tally."""
    tally = sum((evaluation.tally for evaluation in evaluations[1:]), evaluations[0].tally)
    lanes = max(evaluation.lanes for evaluation in evaluations)
    reread = sum(evaluation.reread_chars for evaluation in evaluations)
    return replace(evaluations[0], tally=tally, lanes=lanes, reread_chars=reread)


def _fields(run: "Run", row: _Row, *, count: int) -> dict[str, Any]:
    """A row of --json."""
    evaluation, policy = row.evaluation, run.vocab.unknown
    facts = {
        "chars": evaluation.tally.chars,
        "protocol": evaluation.protocol,
        "lanes": evaluation.lanes,
        "reread_chars": evaluation.reread_chars,
        "skipped_chars": row.unknown_chars if policy == "skip" else 0,
        "replaced_chars": row.unknown_chars if policy == "replace" else 0,
        "split": row.split,
        "text": row.text,
        "run": str(run.folder),
    }
    if row.text is None and row.split is None:
        facts["texts"] = count
    return evaluation.figures | {evaluation.naming.name(name): fact for name, fact in facts.items()}


def _write_table(rows: "Sequence[_Row]") -> None:
    naming = rows[0].evaluation.naming
    of_chars = naming.name("chars")
    names = [f"{naming.prefix}loss", f"bits/{naming.unit}", "perplexity", "accuracy"]
    widths = [max(width, len(name)) for width, name in zip(WIDTHS, names, strict=True)]
    chars = max(len(of_chars), *(len(f"{row.evaluation.tally.chars:,}") for row in rows))
    heads = [f"{name:>{width}}" for name, width in zip(names, widths, strict=True)]
    write_line("  ".join([*heads, f"{of_chars:>{chars}}", "text"]))
    for row in rows:
        values = zip(row.evaluation.figures.values(), widths, FORMATS, strict=True)
        cells = [f"{value:{width}{form}}" for value, width, form in values]
        write_line("  ".join([*cells, f"{row.evaluation.tally.chars:{chars},}", row.text or "all of them"]))


def _write_lines(run: "Run", row: _Row) -> None:
    evaluation, chars = row.evaluation, row.evaluation.naming.name("chars")
    for (name, value), form in zip(evaluation.figures.items(), FORMATS, strict=True):
        write_line(f"{name:<20} {value:{form}}")
    write_line(f"{chars:<20} {evaluation.tally.chars:,}")
    if row.unknown_chars:
        done = "skipped" if run.vocab.unknown == "skip" else "replaced"
        write_line(f"{done:<20} {row.unknown_chars:,}")
    write_line(f"{'protocol':<20} {evaluation.protocol}")
    again = f", {evaluation.reread_chars:,} {chars} read twice" if evaluation.reread_chars else ""
    write_line(f"{'lanes':<20} {evaluation.lanes}{again}")
    write_line(f"{'text':<20} {row.text if row.text is not None else f'{row.split} split of the run'}")
