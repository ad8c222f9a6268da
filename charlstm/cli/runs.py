"""`charlstm runs`: the runs that are here; and the run that a command takes. Loads no torch."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm import environment
from charlstm.cli.terminal import print_diagnostic, report_errors, write_line

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
        import json

        for summary in summaries:
            write_line(json.dumps(_facts(summary), ensure_ascii=False))
    elif summaries:
        for line in _table([_row(summary) for summary in summaries]):
            write_line(line)
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
        f"{facts['step']:,}",
        "not validated" if bits is None else f"{bits:.4f} {_figure(summary).removeprefix('bits_').replace('_', ' ')}",
        f"{summary.bytes / 1e6:.1f} MB",
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Aligned columns; on a terminal with no room for them, a few lines a run."""
    widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (HEAD, *rows)
    ]
    columns = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or max(map(len, lines)) <= columns:
        return lines
    blocks = []
    for name, *cells in rows:
        facts = [
            f"{head} {cell}" if head in ("began", "step") else cell for head, cell in zip(HEAD[1:], cells, strict=True)
        ]
        blocks += [name, *textwrap.wrap(", ".join(facts), columns, initial_indent="  ", subsequent_indent="  ")]
    return blocks
