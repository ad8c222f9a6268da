"""What each part of configs/tinyshakespeare.yaml gains: with one thing changed at a time, all with the same operations.

python benchmarks/ablations.py run [--seeds N …] [--only NAME …] [--processes N] [--rows FILE]
python benchmarks/ablations.py table [--rows FILE]

Every variant is trained until its layers' matrix products have taken as many operations, about those of a quarter of
ten minutes on an AMD EPYC with AVX512-BF16. Rows are written as they come and are not measured again, so a run that was
stopped goes on; those of other settings than a variant has today do not count. Needs tinyshakespeare (CHARLSTM_DATA, or
its download).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measure
from msgspec import convert, to_builtins

from charlstm.settings import Settings, load_settings, override_settings

HERE = Path(__file__).parent
RECIPE = HERE.parent / "configs" / "tinyshakespeare.yaml"
ROWS = HERE / "ablations.jsonl"
FLOP = 3.5e13  # 6 million characters of the recipe
SEEDS = (1, 2)
BASE: Mapping[str, Any] = {  # what the recipe, or a default, was when the first rows were made
    "training.learning_rate": 0.02,
    "training.warmup_steps": 50,
    "training.max_minutes": None,
    "training.shards": 1,
    "training.threads": 1,
}
ADAMW_32: Mapping[str, Any] = {"training.optimizer": "adamw", "training.batch_size": 32}


@dataclass(frozen=True)
class Variant:
    """The recipe with something changed: settings, or what no setting changes."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    change: str | None = None  # a name in `changes.CHANGES`


VARIANTS = [
    Variant("the recipe"),
    Variant("AdamW, 32 lanes, rate 0.004", {**ADAMW_32, "training.learning_rate": 0.004}),
    Variant("AdamW, 32 lanes, rate 0.016", {**ADAMW_32, "training.learning_rate": 0.016}),
    Variant("SOAP, rate 0.016", {"training.learning_rate": 0.016}, change="soap"),
    Variant("Muon for whole matrices", change="muon_whole"),
    Variant("Muon with five iterations", change="muon_5"),
    Variant("a quarter of the rate for what Muon does not move", change="others_slow"),
    Variant("twice the rate for what Muon does not move", change="others_fast"),
    Variant("rate 0.01", {"training.learning_rate": 0.01}),
    Variant("rate 0.03", {"training.learning_rate": 0.03}),
    Variant("32 lanes, rate 0.014", {"training.batch_size": 32, "training.learning_rate": 0.014}),
    Variant("windows of 128", {"training.sequence_length": 128}),
    Variant("two layers of 384", {"model.hidden_size": 384}),
    Variant("three layers of 320", {"model.num_layers": 3, "model.hidden_size": 320}),
    Variant("output layer reads the last layer alone", {"model.skip_connections": False}),
    Variant("no dropout of outputs", {"model.dropout": 0.0}),
    Variant("no dropout of recurrent weights", {"model.recurrent_dropout": 0.0}),
    Variant("neither dropout", {"model.dropout": 0.0, "model.recurrent_dropout": 0.0}),
    Variant("segments of 16 steps", {"training.segment_steps": 16}),
    Variant("no lanes of beginnings", {"training.beginning_lanes": 0}),
    Variant("no weight decay", {"training.weight_decay": 0.0}),
    Variant("weight decay 0.5", {"training.weight_decay": 0.5}),
    Variant("constant rate", {"training.schedule": "constant"}),
    Variant("rate that falls in the last third alone", change="fall_late"),
    Variant("no clipping", {"training.clip_norm": None}),
    Variant("AdamW's second beta 0.99", change="beta2_0.99"),
    Variant("averaged weights (0.998)", change="averaged"),
    Variant("averaged weights (0.998), constant rate", {"training.schedule": "constant"}, change="averaged"),
    Variant("layer normalisation after each layer", change="normalised"),
    Variant("residual connections", change="residual"),
    Variant("dropout of embeddings 0.2", change="embedding_dropout"),
    Variant("a tenth of the inputs replaced", change="input_noise"),
]


def as_options(values: Mapping[str, Any]) -> list[str]:
    return [f"{path}={value if isinstance(value, str) else json.dumps(value)}" for path, value in values.items()]


def settings_of(variant: Variant, seed: int) -> Settings:
    """All that a variant is trained by but the number of its steps."""
    values = {**BASE, "training.seed": seed, **variant.settings}
    overrides = [*as_options(values), "training.max_steps=1"]
    return load_settings(RECIPE, overrides)


def train_one(variant: Variant, seed: int) -> dict[str, Any]:
    """Train a variant on one thread, and measure it: the row of the table."""
    from changes import CHANGES

    from charlstm.evaluation import evaluate
    from charlstm.text import read_corpus, split_corpus, start_id
    from charlstm.training import build_trainer
    from charlstm.weights import training_flop

    asked = settings = settings_of(variant, seed)
    corpus = read_corpus(settings.data, stdin=None)
    training = settings.training
    chars = FLOP / training_flop(settings.model, corpus.vocab.size)
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
        "precision": trainer.machine.precision,
        "steps": steps,
        "chars": steps * trainer.batches.chars_per_step,
        "seconds": round(seconds),
        "training_loss": round(statistics.mean(losses[-100:]), 4),
        "curve": curve,
        **{name: round(loss, 4) for name, loss in figures.items()},
        "settings": to_builtins(asked),
    }


def run(args: argparse.Namespace) -> None:
    """Train what has no row yet, several processes at a time, variant after variant of each seed."""
    done = {(row["variant"], row["seed"]) for row in read_rows(args.rows)}
    chosen = [variant.name for variant in VARIANTS if not args.only or variant.name in args.only]
    wanted = [(name, seed) for seed in args.seeds for name in chosen]
    todo = [each for each in wanted if each not in done]

    def train_in_process(which: tuple[str, int]) -> None:
        command = [sys.executable, __file__, "one", "--only", which[0], "--seeds", str(which[1])]
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
    print(json.dumps(train_one(variant, args.seeds[0])), flush=True)


def print_table(args: argparse.Namespace) -> None:
    """Every variant that has rows, beside the recipe with the same seeds and in the same precision."""
    rows = read_rows(args.rows)
    recipe = {pair_of(row): row["stream"] for row in rows if row["variant"] == VARIANTS[0].name}
    if not recipe:
        sys.exit(f"{args.rows} has no row of the recipe as it is now: run it first")
    if alone := sum(pair_of(row) not in recipe for row in rows):
        print(f"left out: {alone} rows without a row of the recipe of their seed and precision", file=sys.stderr)
    lines = []
    for variant in VARIANTS:
        own = [row for row in rows if row["variant"] == variant.name and pair_of(row) in recipe]
        if not own:
            continue
        losses = [row["stream"] for row in own]
        lines.append(
            [
                variant.name,
                f"{statistics.mean(losses):.4f}",
                f"{statistics.mean(row['stream'] - recipe[pair_of(row)] for row in own):+.4f}",
                f"{min(losses):.4f} … {max(losses):.4f}" if len(own) > 1 else "",
                *(f"{statistics.mean(row[figure] for row in own):.4f}" for figure in ("windows", "training_loss")),
                f"{own[0]['chars'] / 1e6:.1f} M",
                ", ".join(sorted("{} {}".format(*pair_of(row)) for row in own)),
            ]
        )
    head = ["changed", "stream", "difference", "seeds from … to", "windows", "training loss", "characters", "seeds"]
    measure.table(head, lines)


def pair_of(row: Mapping[str, Any]) -> tuple[int, str]:
    """What two rows must share for their difference to be that of their settings."""
    return row["seed"], row["precision"]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of variants with the settings that they have today."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    variants = {variant.name: variant for variant in VARIANTS}
    return [
        row
        for row in rows
        if row["variant"] in variants
        and convert(row["settings"], Settings) == settings_of(variants[row["variant"]], row["seed"])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands: Mapping[str, Callable[[argparse.Namespace], None]] = {"run": run, "one": one, "table": print_table}
    parser.add_argument("command", choices=commands)
    parser.add_argument("--rows", type=Path, default=ROWS, help="where rows are added and read")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of these variants alone")
    parser.add_argument("--processes", type=int, default=2, help="at a time, each on one thread")
    args = parser.parse_args()
    commands[args.command](args)


if __name__ == "__main__":
    main()
