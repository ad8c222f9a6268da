"""Settings that `charlstm train TEXT` chooses, beside a search of ten times the budget, on seven texts.

python benchmarks/automatic.py run [--texts NAME …] [--minutes M] [--processes N] [--rows FILE]
python benchmarks/automatic.py again …   # one after the other: what is chosen by now, and the best that was found
python benchmarks/automatic.py table [--rows FILE]

The search begins with the chosen settings. Each of its ten trials has as many minutes as they had, and is the best so
far with one thing changed; a change that gained is tried again instead of its opposite. Losses are the best
validation's. Every trial has one thread, and as many run at a time as there are processes. Rows are written as they
come and are not measured again, so a run that was stopped goes on.

The rule was fitted on five texts that come with the project, with Python and with torch: the first 20,000 characters of
a story, names, Python's reference (pydoc), torch's C++ headers and torch's Python files, up to 46 million characters.
Two had no part in that: the names of Unicode's characters, and torch's list of its operations (YAML).
"""

import argparse
import json
import pydoc_data.topics
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import measure
import torch
import yaml

from charlstm.training.automatic import HIDDEN_SIZES

DATA = measure.HERE.parent / "data"
ROWS = measure.HERE / "automatic.jsonl"
TORCH = Path(torch.__file__).parent
TRIALS = 10
CHOSEN_AGAIN, BEST_AGAIN = "chosen again", "best again"
Values = dict[str, Any]  # by the settings' dotted paths


def joined(pattern: str) -> str:
    return "".join(path.read_text(errors="replace") for path in sorted(TORCH.glob(pattern)))


def unicode_names() -> str:
    """A line each, without the ideographs and syllables that have numbers and letters for names."""
    names = (unicodedata.name(chr(code), "") for code in range(sys.maxunicode + 1))
    return "".join(f"{name}\n" for name in names if name and "IDEOGRAPH-" not in name and "HANGUL SYL" not in name)


TEXTS: Mapping[str, Callable[[], str]] = {
    "story": lambda: (DATA / "the-tide-clock.txt").read_text()[:20_000],
    "names": lambda: (DATA / "names.txt").read_text(),
    "reference": lambda: "".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)),
    "headers": lambda: joined("include/**/*.h"),
    "python": lambda: joined("**/*.py"),
    "unicode": unicode_names,
    "operations": lambda: (TORCH.parent / "torchgen/packaged/ATen/native/native_functions.yaml").read_text(),
}


@dataclass(frozen=True)
class Move:
    """A change to settings, and the move that is tried only if this one gained nothing."""

    name: str
    change: Callable[[Values], Values]
    opposite: str | None = None


def resized(values: Values, by: int) -> Values:
    number = HIDDEN_SIZES.index(values["model.hidden_size"]) + by
    return {"model.hidden_size": HIDDEN_SIZES[min(max(0, number), len(HIDDEN_SIZES) - 1)]}


def dropped(values: Values, by: float) -> Values:
    dropout = min(0.8, max(0.0, values["model.dropout"] + by))
    return {"model.dropout": round(dropout, 2), "model.recurrent_dropout": round(0.6 * dropout, 2)}


def relaned(values: Values, by: float) -> Values:
    lanes, rate = values["training.batch_size"], values["training.learning_rate"]
    return {"training.batch_size": round(lanes * by), "training.learning_rate": round(rate * by**0.5, 5)}


def rerated(values: Values, by: float) -> Values:
    return {"training.learning_rate": round(values["training.learning_rate"] * by, 5)}


MOVES = [
    Move("larger", lambda values: resized(values, 1), "smaller"),
    Move("smaller", lambda values: resized(values, -1)),
    Move("more dropout", lambda values: dropped(values, 0.15), "less dropout"),
    Move("less dropout", lambda values: dropped(values, -0.15)),
    Move("half the lanes", lambda values: relaned(values, 0.5), "twice the lanes"),
    Move("twice the lanes", lambda values: relaned(values, 2.0)),
    Move("lower rate", lambda values: rerated(values, 1 / 1.5), "higher rate"),
    Move("higher rate", lambda values: rerated(values, 1.5)),
    Move("in order", lambda _: {"training.segment_steps": None}),
    Move("one layer", lambda _: {"model.num_layers": 1}, "three layers"),
    Move("three layers", lambda _: {"model.num_layers": 3}),
]


def next_move(rows: list[dict[str, Any]], values: Values) -> Move | None:
    """The first move that changes the settings and did not fail before, nor is the opposite of one that gained."""
    best, given_up = rows[0]["loss"], set[str | None]()
    for row in rows[1:]:
        move = next(move for move in MOVES if move.name == row["changed"])
        gained = row["loss"] < best
        best = min(best, row["loss"])
        given_up.add(move.opposite if gained else move.name)
    left = [move for move in MOVES if move.name not in given_up]
    return next((move for move in left if {**values, **move.change(values)} != values), None)


def train(text: Path, minutes: float, values: Values | None, base: Path | None, run: Path) -> dict[str, Any]:
    """Train on a text by settings that are chosen for it, or by others; what came of it."""
    fixed = {"training.max_minutes": minutes, "training.threads": 1, "training.shards": 1, "training.seed": 1}
    fixed |= {"training.warmup_steps": 50}  # the default when the first rows were made
    settings = {**fixed, "training.sample_length": None, "training.beginning_lanes": "auto", **(values or {})}
    written = {path: value if isinstance(value, str) else json.dumps(value) for path, value in settings.items()}
    given = [part for path, value in written.items() for part in ("--set", f"{path}={value}")]
    command = [*measure.CHARLSTM, "train", str(base or text), "--run", str(run), "--quiet", *given]
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["val_loss"] for row in found if row.get("val_loss") is not None]
    return {"loss": round(min(losses), 4), "steps": found[-1]["step"], "seconds": round(time.perf_counter() - begin)}


def search(name: str, args: argparse.Namespace) -> None:
    """The chosen settings of a text and the trials that follow, as far as they have no rows yet."""
    with tempfile.TemporaryDirectory() as folder:
        text = write_text(name, Path(folder))
        for trial in range(TRIALS + 1):
            rows = searched(rows_of(name, args))
            if len(rows) > trial:
                continue
            run = Path(folder) / str(trial)
            if not rows:
                add_row({"changed": "chosen", **train(text, args.minutes, None, None, run)}, text, run, args)
                continue
            best = best_of(rows)["settings"]
            values = {f"{part}.{key}": value for part in ("model", "training") for key, value in best[part].items()}
            move = next_move(rows, values)
            if move is None:
                break
            found = train(text, args.minutes, move.change(values), write_settings(best, text), run)
            add_row({"changed": move.name, **found}, text, run, args)


def write_text(name: str, folder: Path) -> Path:
    text = folder / f"{name}.txt"
    text.write_text(TEXTS[name](), newline="")
    return text


def write_settings(settings: Mapping[str, Any], text: Path) -> Path:
    """Those of a trial, for a text that lies elsewhere by now."""
    base = text.with_suffix(".yaml")
    base.write_text(yaml.safe_dump({**settings, "data": settings["data"] | {"sources": [str(text)]}}))
    return base


def add_row(row: dict[str, Any], text: Path, run: Path, args: argparse.Namespace) -> None:
    """Write what came of a trial, with the settings of its run."""
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["data"]["sources"] = [text.name]
    row = {"text": text.stem, "chars": len(text.read_text()), "minutes": args.minutes, **row}
    print(row, flush=True)
    with args.rows.open("a") as file:
        file.write(json.dumps(row | {"settings": settings}) + "\n")


def compare_again(name: str, args: argparse.Namespace) -> None:
    """Two rows, under the same circumstances: of the settings that are chosen by now, and of the best ones found."""
    trials = searched(rows_of(name, args))
    if not trials:
        sys.exit(f"{args.rows} has no search on {name}: run it first")
    with tempfile.TemporaryDirectory() as folder:
        text = write_text(name, Path(folder))
        best = write_settings(best_of(trials)["settings"], text)
        for changed, base in ((CHOSEN_AGAIN, None), (BEST_AGAIN, best)):
            run = Path(folder) / changed
            add_row({"changed": changed, **train(text, args.minutes, None, base, run)}, text, run, args)


def for_each_text(act: Callable[[str, argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Several texts at a time."""
    with ThreadPoolExecutor(args.processes) as pool:
        for done in [pool.submit(act, name, args) for name in args.texts]:
            done.result()


def print_table(args: argparse.Namespace) -> None:
    """What the search found, and the losses of the settings that were chosen last and of the best, both again."""
    lines = []
    for name in TEXTS:
        rows = rows_of(name, args)
        chosen, best = ([row for row in rows if row["changed"] == each] for each in (CHOSEN_AGAIN, BEST_AGAIN))
        if not best:
            continue
        trials = searched(rows)
        gains, least = [], trials[0]["loss"]
        for row in trials[1:]:
            if row["loss"] < least:
                least = row["loss"]
                gains.append(f"{row['changed']} ({least:.4f})")
        model, training = chosen[-1]["settings"]["model"], chosen[-1]["settings"]["training"]
        lines.append(
            [
                name,
                f"{chosen[-1]['chars']:,}",
                f"2×{model['hidden_size']}, {model['dropout']}, {training['batch_size']}, {training['learning_rate']}",
                f"{trials[0]['loss']:.4f}",
                ", ".join(gains),
                f"{chosen[-1]['loss']:.4f} ({chosen[-1]['steps']:,})",
                f"{best[-1]['loss']:.4f} ({best[-1]['steps']:,})",
                f"{chosen[-1]['loss'] - best[-1]['loss']:+.4f}",
            ]
        )
    head = ["text", "characters", "chosen: layers, dropout, lanes, rate", "where the search began", "what it gained by"]
    measure.table([*head, "chosen (steps)", "best found (steps)", "chosen − best"], lines)


def searched(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the search, from its beginning on."""
    return [row for row in rows if row["changed"] not in (CHOSEN_AGAIN, BEST_AGAIN)]


def best_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return min(rows, key=lambda row: row["loss"])


def rows_of(name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Those of a text, by trials of as many minutes."""
    rows = [json.loads(line) for line in args.rows.read_text().splitlines()] if args.rows.exists() else []
    return [row for row in rows if (row["text"], row["minutes"]) == (name, args.minutes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands: Mapping[str, Callable[[argparse.Namespace], None]] = {
        "run": partial(for_each_text, search),
        "again": partial(for_each_text, compare_again),
        "table": print_table,
    }
    parser.add_argument("command", choices=commands)
    parser.add_argument("--texts", nargs="+", choices=TEXTS, default=list(TEXTS), metavar="NAME")
    parser.add_argument("--minutes", type=float, default=1.0, help="of each trial")
    parser.add_argument("--processes", type=int, default=2, help="texts at a time")
    parser.add_argument("--rows", type=Path, default=ROWS, help="where rows are added and read")
    args = parser.parse_args()
    commands[args.command](args)


if __name__ == "__main__":
    main()
