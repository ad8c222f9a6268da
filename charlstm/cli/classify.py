"""`charlstm classify`: the likeliest of several runs for every line. Loads no torch."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm import environment
from charlstm.cli.line_streams import FieldOption, Format, FormatOption, RecordStream, SkipOption, check_format
from charlstm.cli.runs import take_run
from charlstm.cli.terminal import RawOption, report_errors, text_writer
from charlstm.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@report_errors
def classify_command(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Lines to tell apart; - for stdin.")] = "-",
    runs: Annotated[list[Path] | None, typer.Option("--run", metavar="RUN", help="A run folder; two or more.")] = None,
    priors: Annotated[
        list[str] | None,
        typer.Option("--prior", metavar="RUN=P", help="How frequent a run's lines are, relative to 1 for the others."),
    ] = None,
    form: FormatOption = Format.text,
    field: FieldOption = None,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="What the added field is called.")] = "run",
    as_json: Annotated[bool, typer.Option("--json", help="One object a line, with every posterior.")] = False,
    skip_bad: SkipOption = False,
    raw: RawOption = False,
) -> None:
    """Tell which of several runs has most likely written each line.

    posterior of a run = prior x p(line | run) / the sum of that over all runs. The line's probability is that of
    `charlstm score`, with its end. Prints the run's name, its posterior and the line.
    """
    check_format(form, field, as_json=as_json)
    if len(runs or ()) < 2:
        raise SettingsError("--run is needed twice or more: a line is told apart by which run gives it more")
    cores = environment.limit_numpy_threads()
    import numpy as np

    from charlstm.api import open_scorer
    from charlstm.text import open_format, whole_line

    opened = [take_run(run, needs="next") for run in runs or ()]
    names = _names([run.folder for run in opened])
    scorers = [open_scorer(run, threads=cores)[0] for run in opened]
    log_priors = np.log(_priors(names, priors or []))
    share = f"{name}_posterior"
    stream = RecordStream(file, open_format(form, field, [name, share]), skip_bad=skip_bad)
    put = text_writer(raw=raw)
    begun = False
    for records in stream.windows():
        texts = [record.text for record in records]
        nats = np.stack([scorer.score(texts).nats for scorer in scorers], axis=1)  # (N, runs)
        posteriors = _posteriors(log_priors - nats)
        pieces = [] if begun else [stream.form.header()]
        begun = True
        for record, of_runs, costs in zip(records, posteriors.tolist(), nats.tolist(), strict=True):
            best = max(range(len(names)), key=of_runs.__getitem__)
            if as_json:
                text = whole_line(record.text).decode("utf-8", "replace")
                fields = {"line": record.number, "text": text, "run": names[best]}
                of_each = {"posteriors": of_runs, "nats": [round(cost, 6) for cost in costs]}
                figures = {key: dict(zip(names, values, strict=True)) for key, values in of_each.items()}
                pieces.append(json.dumps(fields | figures, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            else:
                pieces.append(stream.form.with_values(record, {name: names[best], share: of_runs[best]}))
        put(b"".join(pieces))
    if not begun:  # a table without rows
        put(stream.form.header())


def _posteriors(joint: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Posteriors (N, runs) from the logarithms of prior times probability."""
    import numpy as np

    shares = np.exp(joint - joint.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return found


def _names(folders: list[Path]) -> list[str]:
    """The runs' names as they are printed: those of their folders if they differ, else the paths.

    Raises SettingsError for a run that is given twice.
    """
    resolved = [folder.resolve() for folder in folders]
    if twice := [folder for place, folder in enumerate(folders) if resolved[place] in resolved[:place]]:
        raise SettingsError(f"--run names {twice[0]} twice: name different runs")
    names = [folder.name for folder in resolved]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _priors(names: list[str], given: list[str]) -> list[float]:
    """The prior of each run, to be normalised. Raises SettingsError."""
    priors = dict.fromkeys(names, 1.0)
    for one in given:
        name, _, value = one.rpartition("=")
        try:
            prior = float(value)
        except ValueError:
            prior = math.nan
        if name not in priors or not 0 < prior < math.inf:
            raise SettingsError(f"--prior {one}: give one of {', '.join(names)}, = and a number above 0")
        priors[name] = prior
    return list(priors.values())
