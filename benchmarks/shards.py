"""How a batch is best cut: by one thread a shard, by teams of threads, by what is measured at the start, by processes.

python benchmarks/shards.py [--quick] [--rounds N] [--json FILE] [--only idle|busy|fp32|spins …]

Whole steps of the program's trainer beside the plain trainer, idle and beside a busy process, and in fp32; then how
long OpenMP's threads spin before they sleep, at 2×512 with 32 lanes, idle and busy.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import measure
from measure import HERE, PYTHON, Shape, median, spread

SHAPES = [
    Shape(2, 128, 64, 32, 64),
    Shape(2, 256, 128, 16, 64),
    Shape(2, 256, 128, 32, 64),
    Shape(2, 256, 128, 64, 128),
    Shape(2, 512, 128, 32, 64),
    Shape(2, 512, 128, 64, 128),
]
SECONDS, QUICK_SECONDS = 3.0, 1.5  # of timed steps, at a speed of GUESS
GUESS = 1e11  # operations a second
WAYS = {  # flags of ours.py
    "one thread a shard": ["--threads-per-shard", "1"],
    "a team of two": ["--shards", "1", "--threads-per-shard", "2"],
    "chosen": [],
    "two processes": [],
}
COMPARED = ("plain", "one thread a shard", "chosen", "two processes")


def chars_per_second(
    way: str, shape: Shape, *, quick: bool, precision: str = "auto", spins: int | None = None
) -> float:
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
        env = {} if spins is None else {"GOMP_SPINCOUNT": str(spins)}
        found = measure.run_json("ours.py", "train", *flags, *WAYS[way], "--precision", precision, env=env)
    return chars / median(found["step_seconds"])


def speeds(title: str, shapes: Sequence[Shape], rounds: int, *, quick: bool) -> dict[str, Any]:
    """Characters a second of every way and shape, as a table and as figures."""
    figures, rows = {}, []
    for shape in shapes:
        sides = {way: partial(chars_per_second, way, shape, quick=quick) for way in COMPARED}
        figures[shape.long_name] = found = measure.interleaved(sides, rounds)
        shown = (f"{median(found[side]):,.0f} (±{spread(found[side])})" for side in sides)
        before, chosen = median(found["one thread a shard"]), median(found["chosen"])
        ratios = (chosen / before, chosen / median(found["plain"]), median(found["two processes"]) / chosen)
        rows.append([shape.long_name, *shown, *(f"{ratio:.2f}" for ratio in ratios)])
    head = [title, *COMPARED, "chosen / one thread a shard", "chosen / plain", "two processes / chosen"]
    measure.table(head, rows)
    return figures


def busy(rounds: int, *, quick: bool) -> dict[str, Any]:
    with measure.background_load(1):
        return speeds("characters/s beside a busy process", SHAPES[2:5], rounds, quick=quick)


def in_fp32(rounds: int, *, quick: bool) -> dict[str, Any]:
    """The same where bf16 is not to be had; the way that is chosen beside one thread a shard."""
    figures, rows = {}, []
    for shape in (SHAPES[2], SHAPES[4]):
        ways = ("plain", "one thread a shard", "chosen")
        sides = {way: partial(chars_per_second, way, shape, quick=quick, precision="fp32") for way in ways}
        figures[shape.long_name] = found = measure.interleaved(sides, rounds)
        plain, before, chosen = (median(found[way]) for way in ways)
        shown = (f"{median(found[way]):,.0f} (±{spread(found[way])})" for way in ways)
        rows.append([shape.long_name, *shown, f"{chosen / before:.2f}", f"{chosen / plain:.2f}"])
    head = ["characters/s in fp32", *ways, "chosen / one thread a shard", "chosen / plain"]
    measure.table(head, rows)
    return figures


def spins(rounds: int, *, quick: bool) -> dict[str, Any]:
    """A team of two threads by how often a thread that waits looks before it sleeps; 300,000 is libgomp's default."""
    figures: dict[str, Any] = {}
    counts = (0, 1_000, 20_000, 300_000)
    sides = {
        str(count): partial(chars_per_second, "a team of two", SHAPES[4], quick=quick, spins=count) for count in counts
    }
    figures["idle"] = measure.interleaved(sides, rounds)
    with measure.background_load(1):
        figures["busy"] = measure.interleaved(sides, rounds)
    best = {load: max(map(median, found.values())) for load, found in figures.items()}
    rows = []
    for count in counts:
        of_count = {load: figures[load][str(count)] for load in figures}
        shown = (f"{median(of_count[load]):,.0f} (±{spread(of_count[load])})" for load in figures)
        shares = (f"{median(of_count[load]) / best[load]:.2f}" for load in figures)
        rows.append([f"{count:,}", *(text for pair in zip(shown, shares, strict=True) for text in pair)])
    measure.table(["GOMP_SPINCOUNT", "idle, characters/s", "of the best", "busy", "of the best"], rows)
    return figures


def main() -> None:
    idle = partial(speeds, "characters/s", SHAPES)
    parts: dict[str, Callable[..., dict[str, Any]]] = {"idle": idle, "busy": busy, "fp32": in_fp32, "spins": spins}
    parser = measure.option_parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=parts)
    args = parser.parse_args()
    rounds = args.rounds or (1 if args.quick else 3)
    measure.begin("Ways to cut a batch")
    figures = {name: parts[name](rounds, quick=args.quick) for name in args.only or parts}
    print(f"\nMedians of {rounds} in turns; ± is the range.")
    measure.finish(args, figures)


if __name__ == "__main__":
    main()
