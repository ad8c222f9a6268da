"""Documents beside the same lines as one stream: names and what is true of them, speed, and memory for many lines.

python benchmarks/documents.py [--quick] [--json FILE] [--only names|truth|speed|size …]

`names`  trains on 32,000 different names (`names.py`), as documents and as a stream, the same model for as many epochs,
         and measures others by `--protocol documents`: per character, ends counted, from the zero state.
`truth`  trains on draws with their repetitions, and compares with the exact probabilities of others.
`speed`  characters a second of processor time in training steps, ends or line ends counted; one shard.
`size`   peak memory and time until the first steps of training are over, by the number of lines.
"""

import argparse
import functools
import itertools
import json
import math
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import measure
import names
import numpy as np

ADAMW = ["training.optimizer=adamw", "training.learning_rate=0.008", "training.warmup_steps=50"]
ADAMW += ["training.batch_size=32"]
SMALL = [*ADAMW, "model.hidden_size=128", "model.embedding_size=64", "model.dropout=0.0"]
SMALL += ["training.sequence_length=64", "training.validate_every_steps=100000"]
AS_DOCUMENTS = ["data.documents=line"]
WARM_UP_STEPS, TIMED_STEPS = 60, 70

SIZE = """
import json, resource, sys, time
from pathlib import Path
from charlstm.settings import override_settings, Settings
from charlstm.training import start_session
begin = time.perf_counter()
settings = override_settings(Settings(), [f"data.sources=[{sys.argv[1]}]", "training.max_steps=4", *sys.argv[2:]])
with start_session(settings) as session:
    for _ in session.trainer.steps():
        pass
seconds = time.perf_counter() - begin
print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def train(text: Path, folder: Path, *overrides: str) -> Any:
    """A run on lines, in a folder."""
    from charlstm import load_settings, start_session

    settings = load_settings(None, [f"data.sources=[{text}]", *SMALL, *overrides])
    with start_session(settings, folder=folder) as session:
        return session.train().run


def measured(run: Any, text: Path) -> dict[str, float]:
    """A run's figures on lines, each read from its beginning."""
    from charlstm import encode_text, evaluate

    return evaluate(run, encode_text(run, str(text)).ids, protocol="documents").figures


def without_line_end_before(run: Any, lines: Sequence[str]) -> float:
    """Nats per character, ends counted, where not even the line end is read before a line: its bias alone predicts."""
    nats = chars = 0.0
    for line in lines:
        for logits, target in zip(*read_line(run, line, start=False), strict=True):
            nats += float(np.logaddexp.reduce(logits) - logits[target])
            chars += 1
    return nats / chars


def read_line(run: Any, line: str, *, start: bool = True) -> tuple[list[Any], list[int]]:
    """The logits (V,) before each character of a line and before its end, and the ids of these."""
    from charlstm.inference import build_stepper
    from charlstm.runs import read_checkpoint
    from charlstm.text import end_id, start_id

    if run.folder not in _steppers:
        _steppers[run.folder] = build_stepper(read_checkpoint(run, "best", model_only=True).weights, run.settings.model)
    stepper = _steppers[run.folder]
    targets = [*run.vocab.encode_text(line, where="a line").tolist(), end_id(run.vocab)]
    state, logits = stepper.zero_state(1), stepper.output_bias[None]
    if start:
        logits, state = stepper.step(np.array([start_id(run.vocab)]), state)
    found = [logits[0].astype(np.float64)]
    for target in targets[:-1]:
        logits, state = stepper.step(np.array([target]), state)
        found.append(logits[0].astype(np.float64))
    return found, targets


_steppers: dict[Path, Any] = {}


def compare_names(folder: Path, epochs: int, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Documents and streams on different names, measured on others."""
    listed = names.draw_names(35_200, seed=1)
    random.Random(1).shuffle(listed)
    text, held = write(folder / "names.txt", listed[3_200:]), write(folder / "held.txt", listed[:3_200])
    limits = [f"training.max_epochs={epochs}"]
    kinds = {
        "documents": AS_DOCUMENTS,
        "stream": [],
        "stream, no beginnings": ["training.beginning_lanes=0"],
    }
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for kind, overrides in kinds.items():
            run = train(text, folder / f"{kind}-{seed}", *limits, *overrides, f"training.seed={seed}")
            row = {"kind": kind, "seed": seed, **measured(run, held)}
            if kind != "documents":
                row["nothing read before"] = without_line_end_before(run, listed[:800])
            rows.append(row)
            print(json.dumps(row), flush=True)
    columns = ("loss", "loss_without_end", "bits_per_document", "nothing read before")
    table = []
    for kind in kinds:
        of_kind = [row for row in rows if row["kind"] == kind]
        table.append([kind, *(f"{mean(r[c] for r in of_kind):.4f}" if c in of_kind[0] else "" for c in columns)])
    measure.table(["names", "nats/char, end counted", "without", "bits/document", "nats/char, nothing before"], table)
    return rows


def compare_truth(folder: Path, epochs: int) -> dict[str, float]:
    """A model of documents against the automaton that they are drawn from."""
    rng = random.Random(2)
    text = write(folder / "draws.txt", [names.draw_name(rng) for _ in range(200_000)])
    lines = [names.draw_name(rng) for _ in range(5_000)]
    held = write(folder / "others.txt", lines)
    run = train(text, folder / "truth", *AS_DOCUMENTS, f"training.max_epochs={epochs}")
    exact = [-names.end_probabilities(line)[0] for line in lines]
    found = measured(run, held)
    apart, model_ends, ends = [], 0.0, 0.0
    for line in lines[:1000]:
        logits, targets = read_line(run, line)
        likely = [math.exp(one[targets[-1]] - np.logaddexp.reduce(one)) for one in logits]
        of_truth = names.end_probabilities(line)[1]
        apart += [abs(one - other) for one, other in zip(likely, of_truth, strict=True)]
        model_ends, ends = model_ends + sum(likely), ends + sum(of_truth)
    figures = {
        "nats/document, model": found["nats_per_document"],
        "nats/document, true": mean(exact),
        "its sampling error": stdev(exact) / math.sqrt(len(exact)),
        "P(end), mean distance": mean(apart),
        "ends expected, model / true": model_ends / ends,
    }
    measure.table(list(figures), [[f"{figure:.4f}" for figure in figures.values()]])
    return figures


def train_speed(overrides: Sequence[str]) -> tuple[float, float]:
    """Characters a second of processor time, once every shape of batch has been seen, and the share of padding."""
    from charlstm import load_settings, start_session

    limits = [f"training.max_steps={WARM_UP_STEPS + TIMED_STEPS}", "training.validate_every_steps=1000000"]
    limits += ["data.split=[1.0, 0.0, 0.0]", "training.shards=1", "training.threads=1"]
    with start_session(load_settings(None, [*ADAMW, *overrides, *limits])) as session:
        steps = session.trainer.steps()
        *_, before = itertools.islice(steps, WARM_UP_STEPS)
        begin = time.process_time()
        *_, last = steps
        speed = (last.chars - before.chars) / (time.process_time() - begin)
        return speed, getattr(session.trainer.batches, "padding", 0.0)


def compare_speed(folder: Path, shapes: Sequence[measure.Shape], rounds: int) -> list[dict[str, Any]]:
    """Steps of training on the same lines as documents and as a stream, in turns."""
    lines = names.draw_names(32_000, seed=1)
    rng = random.Random(1)
    log = [f"2024-03-01 GET /{'/'.join(rng.choices(lines, k=rng.randrange(1, 9)))} {rng.random()}" for _ in lines]
    rows: list[dict[str, Any]] = []
    for name, text in {"names": lines, "log": log}.items():
        path = write(folder / f"{name}-speed.txt", text)
        for shape in shapes:
            model = ["hidden_size", "embedding_size", "num_layers"]
            sizes = [f"model.{size}={getattr(shape, size)}" for size in model]
            sizes += [f"training.{size}={getattr(shape, size)}" for size in ("batch_size", "sequence_length")]
            as_stream = [f"data.sources=[{path}]", *sizes]
            as_documents = [*as_stream, *AS_DOCUMENTS]
            sides = {
                "stream": functools.partial(lambda overrides: train_speed(overrides)[0], as_stream),
                "documents": functools.partial(lambda overrides: train_speed(overrides)[0], as_documents),
            }
            found = measure.interleaved(sides, rounds)
            padding = train_speed(as_documents)[1]
            rows.append({"text": name, "model": shape.long_name, "padding": padding, **found})
            print(json.dumps(rows[-1]), flush=True)
    shown = []
    for row in rows:
        stream, documents = (measure.median(row[side]) for side in ("stream", "documents"))
        met = measure.target(documents >= 0.8 * stream, f"{documents / stream:.2f} ≥ 0.8")
        speeds = (f"{stream / 1000:.0f}k", f"{documents / 1000:.0f}k")
        shown.append([row["text"], row["model"], *speeds, met, f"{row['padding']:.1%}"])
    measure.table(["text", "model", "stream, characters/s", "documents", "ratio", "padding"], shown)
    return rows


def compare_sizes(folder: Path, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Peak memory of reading, splitting and training on more and more lines, as a stream and as documents."""
    rows = []
    for count in counts:
        path = folder / "lines.txt"
        rng = np.random.default_rng(1)
        with path.open("wb") as file:
            for first in range(0, count, 100_000):
                many = min(100_000, count - first)
                letters = rng.integers(97, 123, size=(many, 24), dtype=np.uint8)
                lengths = rng.integers(4, 24, size=many)
                letters[np.arange(many), lengths] = 10
                file.write(letters[np.arange(24) <= lengths[:, None]].tobytes())
        for kind, overrides in {"stream": ADAMW, "documents": [*ADAMW, *AS_DOCUMENTS]}.items():
            done = subprocess.run(
                [
                    measure.PYTHON,
                    "-c",
                    SIZE,
                    str(path),
                    *overrides,
                    "data.split=[0.98, 0.02, 0.0]",
                    "training.validate_every_steps=1000",
                ],
                capture_output=True,
                text=True,
                check=True,
            )
            rows.append({"lines": count, "kind": kind, **json.loads(done.stdout.splitlines()[-1])})
            print(json.dumps(rows[-1]), flush=True)
    measure.table(
        ["lines", "as", "peak", "seconds"],
        [[f"{r['lines']:,}", r["kind"], f"{r['peak'] / 1e6:,.0f} MB", f"{r['seconds']:.0f}"] for r in rows],
    )
    return rows


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs, seeds, rounds and lines")
    parser.add_argument("--only", nargs="+", choices=("names", "truth", "speed", "size"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    args = parser.parse_args()
    measure.begin("Documents")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        parts: dict[str, Callable[[], Any]] = {
            "names": lambda: compare_names(folder, 3 if args.quick else 10, (1,) if args.quick else (1, 2)),
            "truth": lambda: compare_truth(folder, 1 if args.quick else 3),
            "speed": lambda: compare_speed(folder, measure.SHAPES[: 1 if args.quick else 2], 1 if args.quick else 3),
            "size": lambda: compare_sizes(folder, (20_000, 200_000) if args.quick else (20_000, 10_000_000)),
        }
        for name in args.only or parts:
            figures[name] = parts[name]()
    measure.finish(args, figures)


if __name__ == "__main__":
    main()
