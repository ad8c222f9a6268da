"""How a batch is best cut: by one thread a shard, by teams of threads, by what is measured at the start, by processes.

python benchmarks/shards.py [--quick] [--rounds N] [--json FILE]

Whole steps of the program's trainer beside the plain trainer; the second table is the same beside a busy process.
"""

from functools import partial
from typing import Any

import measure
from measure import HERE, PYTHON, Shape, median, spread

SHAPES = [
    Shape(2, 128, 64, 32, 64),
    Shape(2, 256, 128, 16, 64),
    Shape(2, 256, 128, 32, 64),
    Shape(2, 256, 128, 64, 128),
    Shape(2, 512, 128, 16, 64),
    Shape(2, 512, 128, 32, 64),
    Shape(2, 512, 128, 64, 128),
]
SECONDS, QUICK_SECONDS = 3.0, 1.5  # of timed steps, at a speed of GUESS
GUESS = 1e11  # operations a second
WAYS = {  # flags of ours.py
    "one thread a shard": ["--threads-per-shard", "1"],
    "a team for all": ["--shards", "1", "--threads-per-shard", "2"],
    "chosen": [],
    "two processes": [],
}


def chars_per_second(way: str, shape: Shape, *, quick: bool) -> float:
    """Of the median step of one process, or of the first of two."""
    chars = shape.batch_size * shape.sequence_length
    steps = max(3, round((QUICK_SECONDS if quick else SECONDS) * GUESS / shape.flop_per_char / chars))
    flags = [*shape.flags(), "--warmup-steps", max(2, steps // 3), "--steps", steps]
    if way == "two processes":
        command = [PYTHON, str(HERE / "ours.py"), "train", *map(str, flags)]
        found = measure.run_processes([command, command])
    elif way == "plain":
        found = measure.run_json("plain.py", "train", *flags)
    else:
        found = measure.run_json("ours.py", "train", *flags, *WAYS[way])
    return chars / median(found["step_seconds"])


def speeds(title: str, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Characters a second of every way and shape, as a table and as figures."""
    figures, rows = {}, []
    for shape in SHAPES:
        sides = {way: partial(chars_per_second, way, shape, quick=quick) for way in ("plain", *WAYS)}
        figures[shape.long_name] = found = measure.interleaved(sides, rounds)
        shown = (f"{median(found[side]):,.0f} (±{spread(found[side])})" for side in sides)
        before, chosen = median(found["one thread a shard"]), median(found["chosen"])
        ratios = (chosen / before, chosen / median(found["plain"]), median(found["two processes"]) / chosen)
        rows.append([shape.long_name, *shown, *(f"{ratio:.2f}" for ratio in ratios)])
    head = [title, "plain", *WAYS, "chosen / one thread a shard", "chosen / plain", "two processes / chosen"]
    measure.table(head, rows)
    return figures


def main() -> None:
    args = measure.options(__doc__)
    rounds = args.rounds or (1 if args.quick else 3)
    measure.begin("Ways to cut a batch")
    figures = {"idle": speeds("characters/s", rounds, quick=args.quick)}
    with measure.background_load(1):
        figures["busy"] = speeds("characters/s beside a busy process", rounds, quick=args.quick)
    print(f"\nMedians of {rounds} in turns; ± is the range.")
    measure.finish(args, figures)


if __name__ == "__main__":
    main()
