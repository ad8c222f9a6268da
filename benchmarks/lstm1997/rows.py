"""The rows of trials: a file of JSON lines, one a trial, and the table and the picture that are made of them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.lstm1997.paper import TASKS
from benchmarks.lstm1997.recipes import RECIPES, Recipe
from charlstm.settings import CellName

CELLS: Sequence[CellName] = ("lstm", "peephole", "gru", "rnn")
PICTURED = ("reber", "2c q=100 p=100", "3a T=100 N=1", "adding T=100", "multiplication, 13 wrong T=100", "6b")


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of trials by the recipes as they are now; those of others, and a line that was cut, are passed over."""
    rows = []
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["task"] in RECIPES and asdict(Recipe()) | row["recipe"] == asdict(RECIPES[row["task"]]):
            rows.append(row)
    return rows


def append_row(file: Path, row: Mapping[str, Any]) -> None:
    """Add a row as a line of its own, also after one that was cut."""
    is_cut = file.exists() and file.stat().st_size and not file.read_bytes().endswith(b"\n")
    with file.open("a") as stream:
        stream.write("\n" * bool(is_cut) + json.dumps(row) + "\n")


def table_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line a task: its name, the paper's figure, and what came of each cell."""
    made = defaultdict(list)
    for row in rows:
        made[row["task"], row["cell"]].append(row)
    return [[name, f"{task.paper:,}", *(_outcome(made[name, cell]) for cell in CELLS)] for name, task in TASKS.items()]


def _outcome(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many trials were solved, after how many sequences: their mean, and the least and the most of them."""
    found = [row["sequences"] for row in rows if row["end"] == "solved"]
    if not rows:
        return ""
    share = f"{len(found)}/{len(rows)}"
    spread = f" ({min(found):,}–{max(found):,})" if len(found) > 1 else ""
    return f"{share}: {mean(found):,.0f}{spread}" if found else share


def draw_picture(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """The mean error over the sequences, a line a trial of `lstm` or `rnn`, and where the paper had solved the task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    for axes, name in zip(figure.subplots(2, 3).flat, PICTURED, strict=True):
        for cell, color in (("rnn", "tab:orange"), ("lstm", "tab:blue")):
            curves = [row["curve"] for row in rows if (row["task"], row["cell"]) == (name, cell)]
            for place, curve in enumerate(curves):
                axes.plot(*zip(*curve, strict=True), color=color, linewidth=1, label="" if place else cell)
        axes.axvline(TASKS[name].paper, color="black", linestyle=":", label="paper")
        axes.set(title=name, xscale="log", ylim=0)
        axes.legend()
    figure.supxlabel("sequences learned from")
    figure.supylabel("mean error")
    figure.savefig(file, dpi=100)
