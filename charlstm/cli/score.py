"""`charlstm score`: a number for every line. Loads no torch."""

import math
import sys
from collections.abc import Iterator
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm import environment
from charlstm.cli.inspect import Colour
from charlstm.cli.line_streams import WHOLE, FieldOption, Format, FormatOption, RecordStream, SkipOption, check_format
from charlstm.cli.runs import take_run
from charlstm.cli.scored_lines import Normalize, Scale, ScoredLine, Unit, is_empty_line, open_writer
from charlstm.cli.terminal import (
    RawOption,
    RunOption,
    ShardOption,
    TrustOption,
    parse_shard,
    print_diagnostic,
    report_errors,
)
from charlstm.cli.thresholds import calibrate_on_lines, calibrate_on_validation, find_threshold
from charlstm.errors import SettingsError

if TYPE_CHECKING:
    from charlstm.runs import Calibration, Run


@report_errors
def score_command(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Lines, one score each; - for stdin.")] = "-",
    run: RunOption = None,
    form: FormatOption = Format.text,
    field: FieldOption = None,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="What the added field is called.")] = "score",
    unit: Annotated[Unit, typer.Option("--unit", help="Of the score.")] = Unit.bits,
    normalize: Annotated[
        Normalize | None,
        typer.Option("--normalize", help="Per character (default), or none: the whole line (default of --against)."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="RUN2", help="Score how much likelier a line is by RUN than by RUN2."),
    ] = None,
    guess_rank: Annotated[
        bool, typer.Option("--guess-rank", help="Score by how many strings are likelier, an estimate.")
    ] = False,
    above: Annotated[float | None, typer.Option("--above", metavar="X", help="Keep scores above X.")] = None,
    below: Annotated[float | None, typer.Option("--below", metavar="X", help="Keep scores below X.")] = None,
    worst: Annotated[
        float | None,
        typer.Option(
            "--worst",
            metavar="Q",
            help="Keep what scores higher than all but a share Q of the validation lines; no empty one.",
        ),
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option("--calibrate", metavar="FILE", help="Lines for --worst, in the format of the input.")
    ] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Keep what --worst has measured with the run, for the next time.")
    ] = False,
    top: Annotated[
        int | None, typer.Option("--top", metavar="N", min=1, help="The N highest scores, at the end, highest first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object a line, with every figure.")] = False,
    chars: Annotated[bool, typer.Option("--chars", help="With --json: what each character costs.")] = False,
    colour: Annotated[
        Colour, typer.Option("--color", help="Underline what is less likely than 1 in 100, bold: 1 in 10,000.")
    ] = Colour.auto,
    skip_bad: SkipOption = False,
    shard: ShardOption = "1/1",
    trust_sources: TrustOption = False,
    raw: RawOption = False,
) -> None:
    """Score lines: how surprising each is to a model.

    score = -(ln p(x1 … xn) + ln p(end | x1 … xn)) / (n + 1) / ln 2: the bits that the model needs on average for each
    character of the line, which it reads as a text of its own. The end of the line counts as a character, and the
    symbol before its first is read but never counted: for a model of documents both are the boundary between documents,
    for a model of one stream they are line ends. --normalize none leaves out the division by n + 1, --unit nats
    that by ln 2.
    """
    check_format(form, field, as_json=as_json)
    part = parse_shard(shard)
    rank_or_ratio = guess_rank or against is not None
    if worst is not None and not 0 < worst < 1:
        raise SettingsError(f"--worst is {worst:g}, but must be a share between 0 and 1")
    if worst is not None and rank_or_ratio:
        raise SettingsError("--worst is a share of surprising lines: leave --against and --guess-rank out")
    if not (-math.inf if above is None else above) < (math.inf if below is None else below):
        raise SettingsError(f"no score is above {above} and below {below}: give --above and --below other numbers")
    if guess_rank and (against is not None or normalize is Normalize.char):
        raise SettingsError("--guess-rank is a number of strings: leave --against and --normalize out")
    if worst is None and (calibrate is not None or store):
        raise SettingsError("--calibrate and --store go with --worst: give a share")
    if calibrate == file == "-":
        raise SettingsError("--calibrate and the lines to score are both standard input: give one of them as a file")
    if chars and not as_json:
        raise SettingsError("--chars goes with --json")
    cores = environment.limit_numpy_threads()
    from charlstm.api import open_scorer
    from charlstm.text import open_format

    opened = take_run(run, needs="next")
    scorer, checkpoint = open_scorer(opened, threads=cores)
    other = None if against is None else open_scorer(take_run(against, needs="next"), threads=cores)[0]
    if guess_rank and scorer.end is None:
        raise SettingsError(f"--guess-rank needs lines that end, and the text of {opened.folder} has no line ends")
    ranks = scorer.guess_ranks() if guess_rank else None
    scale = Scale(unit, normalize or (Normalize.none if rank_or_ratio else Normalize.char), opened.vocab.unit)

    def scored(stream: RecordStream) -> Iterator[list[ScoredLine]]:
        for records in stream.windows():
            lines = [record.text for record in records]
            by_other = None if other is None else other.score(lines)
            yield list(scale.scored(records, scorer.score(lines), by_other, ranks))

    def stream_of(source: str, part: slice = WHOLE) -> RecordStream:
        return RecordStream(source, open_format(form, field, [name]), skip_bad=skip_bad, part=part)

    if worst is not None:
        if calibrate is None:
            found = calibrate_on_validation(opened, scorer, checkpoint, trust_sources=trust_sources)
        else:
            found = calibrate_on_lines(checkpoint, calibrate, scored(stream_of(calibrate)))
        threshold = find_threshold(scale, found, worst)
        above = threshold if above is None else max(above, threshold)
        if store:
            _store(opened, found)
    stream = stream_of(file, part)
    write = open_writer(
        stream.form,
        opened.vocab,
        scale,
        name=name,
        as_json=as_json,
        chars=chars,
        marks=form is Format.text and not as_json and opened.vocab.unit == "char" and _is_coloured(colour),
        raw=raw,
    )

    def keeps(line: ScoredLine) -> bool:
        if worst is not None and is_empty_line(line.record.text):
            return False
        return (above is None or line.score > above) and (below is None or line.score < below)

    kept = (list(filter(keeps, window)) for window in scored(stream))
    if top is not None:
        write(nlargest(top, (line for window in kept for line in window), key=lambda line: line.score))
        return
    for window in kept:
        write(window)
    write([])  # the header of a table without rows


def _is_coloured(colour: Colour) -> bool:
    on_terminal = sys.stdout.isatty() and environment.terminal_colours()
    return colour is Colour.always or (colour is Colour.auto and on_terminal)


def _store(run: "Run", calibration: "Calibration") -> None:
    from charlstm.runs import save_calibration

    print_diagnostic(f"{save_calibration(run, calibration)}: what {len(calibration.nats):,} lines cost")
