"""What each part of the best recipe gains: the recipe with one thing changed at a time, all with the same operations.

python benchmarks/ablations.py run [--rows FILE] [--flop N] [--seeds N …] [--only NAME …] [--processes N]
python benchmarks/ablations.py table [--rows FILE]

The recipe is configs/tinyshakespeare.yaml; every variant is trained until its matrix products have taken `--flop`
operations, by default those of a third of ten minutes on the machine of the table. Rows are written as they come and
are not measured again, so a run that was stopped goes on. Needs tinyshakespeare (CHARLSTM_DATA, or its download).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measure

HERE = Path(__file__).parent
ROWS = HERE / "ablations.jsonl"
RECIPE = HERE.parent / "configs" / "tinyshakespeare.yaml"
FLOP = 4.8e13  # 4 million characters through two layers of 384
SEEDS = (1, 2)


@dataclass(frozen=True)
class Variant:
    """The recipe with something changed: settings, or what no setting changes."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    change: str | None = None  # a name in `changes.CHANGES`


VARIANTS = [
    Variant("the recipe"),
    Variant("output layer reads the last layer alone", {"model.skip_connections": False}),
    Variant("no dropout of outputs", {"model.dropout": 0.0}),
    Variant("no dropout of recurrent weights", {"model.recurrent_dropout": 0.0}),
    Variant("neither dropout", {"model.dropout": 0.0, "model.recurrent_dropout": 0.0}),
    Variant("both dropouts higher by 0.1", {"model.dropout": 0.4, "model.recurrent_dropout": 0.3}),
    Variant("one stream in order", {"training.segment_steps": None}),
    Variant("no lanes of beginnings", {"training.beginning_lanes": 0}),
    Variant("windows of 128, rate 0.004", {"training.sequence_length": 128, "training.learning_rate": 0.004}),
    Variant("64 lanes, rate 0.004", {"training.batch_size": 64, "training.learning_rate": 0.004}),
    Variant("16 lanes, rate 0.002", {"training.batch_size": 16, "training.learning_rate": 0.002}),
    Variant("two layers of 512", {"model.hidden_size": 512}),
    Variant("two layers of 256", {"model.hidden_size": 256}),
    Variant("three layers of 320", {"model.num_layers": 3, "model.hidden_size": 320}),
    Variant("rate 0.002", {"training.learning_rate": 0.002}),
    Variant("rate 0.005", {"training.learning_rate": 0.005}),
    Variant("no weight decay", {"training.weight_decay": 0.0}),
    Variant("weight decay 0.5", {"training.weight_decay": 0.5}),
    Variant("constant rate", {"training.schedule": "constant"}),
    Variant("no clipping", {"training.clip_norm": None}),
    Variant("Adam's second beta 0.99", change="beta2_0.99"),
    Variant("averaged weights (0.998)", change="averaged"),
    Variant("averaged weights (0.998), constant rate", {"training.schedule": "constant"}, change="averaged"),
    Variant("layer normalisation after each layer", change="normalised"),
    Variant("residual connections", change="residual"),
    Variant("dropout of embeddings 0.2", change="embedding_dropout"),
    Variant("Muon per gate, rate 0.005", change="muon_0.005"),
    Variant("Muon per gate, rate 0.01", change="muon_0.01"),
    Variant("Muon per gate, rate 0.02", change="muon_0.02"),
]


def train_one(variant: Variant, seed: int, flop: float) -> dict[str, Any]:
    """Train a variant on one thread, and measure it: the row of the table."""
    from changes import CHANGES

    from charlstm.evaluation import evaluate
    from charlstm.settings import load_settings, override_settings
    from charlstm.text import read_corpus, split_corpus, start_id
    from charlstm.training import build_trainer
    from charlstm.weights import training_flop

    values = {"training.max_minutes": None, "training.shards": 1, "training.threads": 1, "training.seed": seed}
    overrides = [f"{path}={json.dumps(value)}" for path, value in (values | dict(variant.settings)).items()]
    settings = load_settings(RECIPE, [*overrides, "training.max_steps=1"])
    corpus = read_corpus(settings.data, stdin=None)
    training = settings.training
    chars = flop / training_flop(settings.model, corpus.vocab.size)
    steps = round(chars / (training.batch_size * training.sequence_length))
    settings = override_settings(
        settings, [f"training.max_steps={steps}", f"training.validate_every_steps={max(1, steps // 5)}"]
    )
    parts, _ = split_corpus(corpus, settings.data, seed=seed)
    trainer = build_trainer(settings, corpus, parts)[1]
    finish = CHANGES[variant.change](trainer) if variant.change else lambda: None
    begin, losses, curve = time.perf_counter(), [], []
    for facts in trainer.steps():
        losses.append(facts.loss)
        if facts.validation is not None:
            curve.append(round(facts.validation.loss, 4))
    seconds = time.perf_counter() - begin
    finish()
    figures = {
        name: evaluate(
            trainer.model, trainer.objective, parts.val, start_id=start_id(corpus.vocab), protocol=name
        ).tally.loss
        for name in ("stream", "windows")
    }
    return {
        "variant": variant.name,
        "seed": seed,
        "flop": flop,
        "steps": steps,
        "chars": steps * trainer.batches.chars_per_step,
        "seconds": round(seconds),
        "training_loss": round(statistics.mean(losses[-100:]), 4),
        "curve": curve,
        **{name: round(loss, 4) for name, loss in figures.items()},
    }


def run(args: argparse.Namespace) -> None:
    """Train what has no row yet, several processes at a time, variant after variant of each seed."""
    done = {(row["variant"], row["seed"], row["flop"]) for row in read_rows(args.rows)}
    chosen = [variant.name for variant in VARIANTS if not args.only or variant.name in args.only]
    wanted = [(name, seed) for seed in args.seeds for name in chosen]
    todo = [each for each in wanted if (*each, args.flop) not in done]

    def train_in_process(which: tuple[str, int]) -> None:
        options = ["--flop", str(args.flop), "--only", which[0], "--seeds", str(which[1])]
        command = [sys.executable, __file__, "one", *options]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        with args.rows.open("a") as file:
            file.write(printed)
        print(printed, end="", flush=True)

    with ThreadPoolExecutor(args.processes) as pool:
        for waiting in [pool.submit(train_in_process, which) for which in todo]:
            waiting.result()


def one(args: argparse.Namespace) -> None:
    """Train one variant in this process and print its row."""
    (variant,) = (variant for variant in VARIANTS if variant.name in args.only)
    print(json.dumps(train_one(variant, args.seeds[0], args.flop)), flush=True)


def print_table(args: argparse.Namespace) -> None:
    """Every variant that has rows of the recipe's operations, beside the recipe."""
    rows = [row for row in read_rows(args.rows) if row["flop"] == args.flop]
    recipe = mean_of(rows, VARIANTS[0].name, "stream")
    lines = []
    for variant in VARIANTS:
        own = [row for row in rows if row["variant"] == variant.name]
        if not own:
            continue
        losses = [row["stream"] for row in own]
        spread = f"{min(losses):.4f} … {max(losses):.4f}" if len(own) > 1 else ""
        lines.append(
            [
                variant.name,
                f"{statistics.mean(losses):.4f}",
                f"{statistics.mean(losses) - recipe:+.4f}",
                spread,
                f"{mean_of(own, variant.name, 'windows'):.4f}",
                f"{mean_of(own, variant.name, 'training_loss'):.4f}",
                f"{own[0]['chars'] / 1e6:.1f} M",
                len(own),
            ]
        )
    head = ["changed", "stream", "difference", "seeds from … to", "windows", "training loss", "characters", "seeds"]
    measure.table(head, lines)


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def mean_of(rows: Iterable[Mapping[str, Any]], variant: str, figure: str) -> float:
    return statistics.mean(row[figure] for row in rows if row["variant"] == variant)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands: Mapping[str, Callable[[argparse.Namespace], None]] = {"run": run, "one": one, "table": print_table}
    parser.add_argument("command", choices=commands)
    parser.add_argument("--rows", type=Path, default=ROWS, help="where rows are added and read")
    parser.add_argument("--flop", type=float, default=FLOP, help="operations that each variant is trained with")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of these variants alone")
    parser.add_argument("--processes", type=int, default=2, help="at a time, each on one thread")
    args = parser.parse_args()
    commands[args.command](args)


if __name__ == "__main__":
    main()
