"""`charlstm eval`: how well a model predicts a text."""

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from charlstm.cli.runs import take_run
from charlstm.cli.terminal import (
    RunOption,
    ShardOption,
    TrustOption,
    parse_shard,
    report_errors,
    write_json,
    write_line,
)
from charlstm.cli.waiting import working
from charlstm.errors import RunError, SettingsError

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
    documents = "documents"


FORMATS = (".4f", ".4f", ".3f", ".2%", ".4f", ".4f", ".3f", ".3f")  # of all figures, the last four of documents alone


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
            "--protocol",
            help="stream carries the state; windows starts anew every 256 characters; documents at each one (or line).",
        ),
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Let the model learn from the text as it reads; slow, figures apart.")
    ] = False,
    shard: ShardOption = "1/1",
    trust_sources: TrustOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row instead of lines.")] = False,
) -> None:
    """Measure loss, bits per character, perplexity and accuracy."""
    if texts and split is not None:
        raise SettingsError("--split names a part of the run's own text: give it or TEXT, not both")
    if dynamic and protocol not in (None, ProtocolName.stream):
        raise SettingsError(f"--dynamic reads the text as one stream: leave --protocol {protocol} out")
    which = parse_shard(shard)
    if shard != "1/1" and not texts:
        raise SettingsError("--shard takes every N-th of the texts that are named: name some")
    from charlstm.cli.texts import split_of, text_of
    from charlstm.text import EncodedText

    run = take_run(run_folder, needs="next" if dynamic else None)
    if texts:  # all of them, before hours are spent on the first ones
        readings = [_Reading(text, None, text_of(run, text)) for text in texts[which]]
    else:
        part = str(split or Split.val)
        readings = [_Reading(None, part, EncodedText(split_of(run, part, trust_sources=trust_sources), 0, ()))]
    if dynamic:
        rows = _measure_dynamic(run, readings, trust_sources=trust_sources)
    else:
        rows = [_measure(run, reading, protocol) for reading in readings]
    if len(rows) > 1 and shard == "1/1":
        rows.append(_Row(None, None, sum(row.unknown_chars for row in rows), _total([row.evaluation for row in rows])))
    if as_json:
        for row in rows:
            write_json(_fields(run, row, count=len(rows) - 1))
    elif len(rows) > 1:
        _write_table(rows)
    elif rows:
        _write_lines(run, rows[0])


class _Row(NamedTuple):
    """A text, or a split of the run's own, or with neither all texts; and what was measured on it."""

    text: str | None
    split: str | None
    unknown_chars: int
    evaluation: "Evaluation"


class _Reading(NamedTuple):
    """A text that is named, or a split of the run's own, in the run's vocabulary."""

    text: str | None
    split: str | None
    encoded: "EncodedText"

    def row(self, evaluation: "Evaluation") -> _Row:
        return _Row(self.text, self.split, self.encoded.unknown_chars, evaluation)


def _measure(run: "Run", reading: _Reading, protocol: ProtocolName | None) -> _Row:
    from charlstm.api import evaluate
    from charlstm.text import end_id, with_last_end

    ids = reading.encoded.ids
    if protocol is ProtocolName.documents and reading.text is not None:
        ids = with_last_end(ids, end_id(run.vocab))
    with working(f"measuring {len(ids):,} {run.vocab.unit}s"):
        return reading.row(evaluate(run, ids, protocol=protocol))


def _measure_dynamic(run: "Run", readings: Sequence[_Reading], *, trust_sources: bool) -> list[_Row]:
    from charlstm.api import evaluate_dynamic
    from charlstm.cli.texts import split_of

    try:
        training_ids = split_of(run, "train", trust_sources=trust_sources)
    except RunError as error:
        raise RunError(f"--dynamic needs the text that the run was trained on, and {error}") from error
    texts, done = [reading.encoded.ids for reading in readings], 0.0

    def tell(fraction: float) -> None:
        nonlocal done
        done = fraction

    with working(f"measuring {sum(map(len, texts)):,} {run.vocab.unit}s, learning from them", lambda: done):
        evaluations = evaluate_dynamic(run, texts, training_ids, tell=tell)
    return [reading.row(evaluation) for reading, evaluation in zip(readings, evaluations, strict=True)]


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
    if evaluation.tally.documents:
        facts["documents"] = evaluation.tally.documents
    if (rule := evaluation.rule) is not None:
        facts |= {"rate": rule.rate, "decay": rule.decay, "tuned_split": "train", "tuned_chars": rule.tuned_chars}
    if row.text is None and row.split is None:
        facts["texts"] = count
    return evaluation.figures | {evaluation.naming.name(name): fact for name, fact in facts.items()}


def _write_table(rows: "Sequence[_Row]") -> None:
    from charlstm.cli.tables import Table, print_tables

    naming = rows[0].evaluation.naming
    names = (f"{naming.prefix}loss", f"bits/{naming.unit}", "perplexity", "accuracy", naming.name("chars"), "text")
    cells = [
        (
            *(f"{value:{form}}" for value, form in zip(row.evaluation.figures.values(), FORMATS[:4], strict=False)),
            f"{row.evaluation.tally.chars:,}",
            row.text or "all of them",
        )
        for row in rows
    ]
    print_tables([], [Table("", names, cells, numbers=set(range(5)))])


def _write_lines(run: "Run", row: _Row) -> None:
    evaluation, chars = row.evaluation, row.evaluation.naming.name("chars")
    lines = {name: f"{value:{form}}" for (name, value), form in zip(evaluation.figures.items(), FORMATS, strict=False)}
    lines[chars] = f"{evaluation.tally.chars:,}"
    if documents := evaluation.tally.documents:
        lines[chars] += f", {documents:,} of them ends of documents"
    if row.unknown_chars:
        lines["skipped" if run.vocab.unknown == "skip" else "replaced"] = f"{row.unknown_chars:,}"
    lines["protocol"] = evaluation.protocol
    if (rule := evaluation.rule) is not None:
        tuned = f"tuned on {rule.tuned_chars:,} {chars} of the train split"
        lines["rate, decay"] = f"{rule.rate:g}, {rule.decay:g}, {tuned}"
    again = f", {evaluation.reread_chars:,} {chars} read again" if evaluation.reread_chars else ""
    lines["lanes"] = f"{evaluation.lanes}{again}"
    lines["text"] = row.text if row.text is not None else f"{row.split} split of the run"
    width = max(20, *map(len, lines))
    for name, value in lines.items():
        write_line(f"{name:<{width}} {value}")
