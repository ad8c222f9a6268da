"""`charlstm runs`: the runs that are here; and the run that a command takes. Loads no torch."""

import textwrap
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm import environment
from charlstm.cli.terminal import print_diagnostic, report_errors, write_json

if TYPE_CHECKING:
    from charlstm.runs import Run, RunSummary

HEAD = ("name", "began", "text", "model", "step", "bits", "size")


@report_errors
def runs_command(
    as_json: Annotated[bool, typer.Option("--json", help="One object a run instead of a table.")] = False,
) -> None:
    """List the runs in runs/, the newest first."""
    from charlstm.runs import list_runs

    summaries, problems = list_runs()
    for problem in problems:
        print_diagnostic(f"left out: {problem}")
    if as_json:
        for summary in summaries:
            write_json(_facts(summary))
    elif summaries:
        from charlstm.cli.tables import Table, print_tables

        print_tables([], [Table("", HEAD, [_row(summary) for summary in summaries], numbers=set())])
    else:
        print_diagnostic("there are no runs here: train one with `charlstm train`")


def take_run(named: Path | None, *, needs: str | None = None, quiet: bool = False) -> "Run":
    """The run that is named, or the newest that can do what is needed; say which if that is not the newest of all."""
    from charlstm.runs import newest_folder, open_run
    from charlstm.settings import OBJECTIVE_USES

    run = open_run(named, needs=needs)
    if not quiet and (named or environment.run_folder()) is None and run.folder != newest_folder():
        can = OBJECTIVE_USES[needs].does if needs is not None else "can be read"
        print_diagnostic(f"taking {run.folder}, the newest run that {can}")
    return run


def _facts(summary: "RunSummary") -> dict[str, Any]:
    settings, progress = summary.run.settings, summary.progress
    return {
        "name": summary.run.folder.name,
        "folder": str(summary.run.folder),
        "began": _date(summary.began_at),
        "sources": settings.data.sources,
        "cell": settings.model.cell,
        "num_layers": settings.model.num_layers,
        "hidden_size": settings.model.hidden_size,
        "parameters": summary.parameters,
        "step": progress.step,
        "total_steps": progress.total_steps,
        _figure(summary): summary.best_bits,
        "bytes": summary.bytes,
    }


def _date(seconds: float) -> str | None:
    """The local date and time; None if a calendar has none for a file's odd time."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None


def _figure(summary: "RunSummary") -> str:
    """What the bits of the best validation are called."""
    from charlstm.settings import Naming

    return Naming.of(summary.run.settings).name("bits_per_char")


def _row(summary: "RunSummary") -> tuple[str, ...]:
    """A run in the columns of HEAD."""
    from charlstm.settings import plain

    facts, model = _facts(summary), summary.run.settings.model
    sources = ", ".join(Path(source).name or source for source in facts["sources"])
    bits = summary.best_bits
    return (
        plain(facts["name"]),
        (facts["began"] or "unknown")[:16].replace("T", " "),
        textwrap.shorten(plain(sources), 40, placeholder=" …"),
        f"{model.cell} {model.num_layers} × {model.hidden_size}",
        f"{facts['step']:,} step{'s' * (facts['step'] != 1)}",
        "not validated" if bits is None else f"{bits:.4f} {_figure(summary).removeprefix('bits_').replace('_', ' ')}",
        f"{summary.bytes / 1e6:.1f} MB",
    )
