"""How fast training is: characters a second of whole steps, beside the plain trainer and beside the matrix products.

The second table is the same with one other process spinning, as on a machine that is used for something else too.

python benchmarks/train_speed.py [--quick] [--rounds N] [--json FILE]
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import measure
from measure import SHAPES, Shape, median, spread, target

TARGETS = {"2×128": (2.2, 0.45), "2×256": (4.2, 0.70), "2×512": (3.6, 0.80), "3×512": (3.6, 0.80)}


def chars_per_second(program: str, shape: Shape, *, quick: bool) -> float:
    """Of the median step of one process; in the first steps memory is still being laid out."""
    warmup, steps = (1, 2) if quick else (8, 7)
    if shape.hidden_size < 256:
        warmup, steps = (5, 10) if quick else (20, 40)
    flags = [*shape.flags(), "--warmup-steps", warmup, "--steps", steps]
    seconds = median(measure.run_json(program, "train", *flags)["step_seconds"])
    return shape.batch_size * shape.sequence_length / seconds


def with_background_load(rounds: int) -> dict[str, Any]:
    """Characters a second of both trainers while another process spins."""
    figures, rows = {}, []
    for shape in SHAPES:
        sides = {
            program: partial(chars_per_second, f"{program}.py", shape, quick=shape.num_layers > 2)
            for program in ("plain", "ours")
        }
        with measure.background_load(1):
            found = measure.interleaved(sides, rounds)
        figures[shape.name] = found
        plain, ours = median(found["plain"]), median(found["ours"])
        shown = (f"{median(found[side]):,.0f} (±{spread(found[side])})" for side in sides)
        rows.append([shape.long_name, *shown, f"{ours / plain:.2f}"])
    measure.table(["background load: one busy process", "plain, chars/s", "ours, chars/s", "ratio"], rows)
    return figures


def main() -> None:
    args = measure.options(__doc__)
    rounds = args.rounds or (1 if args.quick else 5)
    measure.begin("Training")
    figures: dict[str, Any] = {}
    rows, peaks = [], []
    for shape in SHAPES:
        sides: dict[str, Callable[[], float]] = {
            "plain": partial(chars_per_second, "plain.py", shape, quick=args.quick),
            "ours": partial(chars_per_second, "ours.py", shape, quick=args.quick),
            "peak": lambda: measure.run_json("ours.py", "peak")["bf16"],
        }
        found = measure.interleaved(sides, rounds)
        figures[shape.name] = found
        peaks += found["peak"]
        plain, ours = median(found["plain"]), median(found["ours"])
        ratio, fraction = ours / plain, ours * shape.flop_per_char / max(found["peak"])
        wanted_ratio, wanted_fraction = TARGETS[shape.name]
        rows.append(
            [
                shape.long_name,
                f"{plain:,.0f} (±{spread(found['plain'])})",
                f"{ours:,.0f} (±{spread(found['ours'])})",
                f"{ratio:.2f}",
                target(ratio >= wanted_ratio, f"≥ {wanted_ratio}"),
                f"{fraction:.0%}",
                target(fraction >= wanted_fraction, f"≥ {wanted_fraction:.0%}"),
            ]
        )
    measure.table(["shape", "plain, chars/s", "ours, chars/s", "ratio", "target", "of bf16 peak", "target"], rows)
    print(f"\nMedian of {rounds} processes a side, in turns; ± is the range. Peak of bf16 matrix products: ", end="")
    print(f"{max(peaks) / 1e9:,.0f} GFLOP/s.")
    if not args.quick:
        figures["busy"] = with_background_load(max(1, rounds - 2))
    measure.finish(args, figures)


if __name__ == "__main__":
    main()
