"""Trials of the tasks of Hochreiter & Schmidhuber 1997, and what came of them; docs/long-memory.md explains them.

python -m benchmarks.lstm1997 run ROWS [--cells NAME …] [--tasks NAME …] [--seeds N …]
python -m benchmarks.lstm1997 table ROWS
python -m benchmarks.lstm1997 picture ROWS FILE

`run` adds a line to the file ROWS after each trial, and leaves out those that are there: interrupted, it loses one.
"""

import argparse
from itertools import product
from pathlib import Path

from benchmarks.lstm1997.paper import TASKS
from benchmarks.lstm1997.recipes import RECIPES
from benchmarks.lstm1997.rows import CELLS, append_row, draw_picture, read_rows, table_rows
from benchmarks.lstm1997.trials import run_trial
from benchmarks.measure import table

MINUTES = 10.0  # of processor time, for each trial


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="the trials that are still missing")
    run.add_argument("rows", type=Path)
    run.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    run.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="NAME")
    run.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    commands.add_parser("table", help="the rows as a Markdown table").add_argument("rows", type=Path)
    picture = commands.add_parser("picture", help="error over sequences, as PNG")
    picture.add_argument("rows", type=Path)
    picture.add_argument("file", type=Path)
    args = parser.parse_args()
    if args.command == "run":
        run_missing(args)
    elif args.command == "table":
        table(["task", "paper", *CELLS], table_rows(read_rows(args.rows)))
    else:
        draw_picture(read_rows(args.rows), args.file)


def run_missing(args: argparse.Namespace) -> None:
    """Make the trials of which there is no row."""
    for cell, name, seed in product(args.cells, args.tasks, args.seeds):
        if any((row["cell"], row["task"], row["seed"]) == (cell, name, seed) for row in read_rows(args.rows)):
            continue
        row = run_trial(TASKS[name], cell, seed, RECIPES[name], minutes=MINUTES)
        append_row(args.rows, row)
        print(f"{cell} {name} {seed}: {row['end']}, {row['sequences']:,} sequences, {row['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
