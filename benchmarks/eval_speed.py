"""How fast a text is evaluated, beside the forward passes that it cannot do without; and that the cut does not matter.

python benchmarks/eval_speed.py [--quick] [--rounds N] [--json FILE]
"""

import time
from functools import partial

import measure
from measure import Shape, median, spread, target

SHAPE = Shape(2, 128, 64, 64, 128)
CUTS = [(1, 128), (7, 100), (64, 128), (200, 32)]  # lanes, characters a time


def seconds(chars: int, *flags: object) -> float:
    return float(measure.run_json("ours.py", "evaluate", *SHAPE.flags(), "--chars", chars, *flags)["seconds"])


def main() -> None:
    args = measure.options(__doc__)
    rounds, began = args.rounds or (1 if args.quick else 5), time.perf_counter()
    chars = 1_000_000 if args.quick else 10_000_000
    measure.begin("Evaluation")
    sides = {"forward": partial(seconds, chars, "--forward-alone"), "evaluate": partial(seconds, chars)}
    found = measure.interleaved(sides, rounds)
    forward, whole = median(found["forward"]), median(found["evaluate"])
    rows = [
        ["forward passes alone", f"{forward:.1f} s", spread(found["forward"]), "", ""],
        [
            "evaluation",
            f"{whole:.1f} s",
            spread(found["evaluate"]),
            f"{whole / forward:.2f}",
            target(whole <= 1.5 * forward, "≤ 1.5"),
        ],
    ]
    measure.table([f"{chars // 1_000_000} MB, {SHAPE.long_name}, fp32", "median", "range", "ratio", "target"], rows)

    few = 50_000 if args.quick else 200_000
    cuts = {}
    for lanes, steps in CUTS:
        flags = [*SHAPE.flags(), "--chars", few, "--batch-size", lanes, "--sequence-length", steps]
        facts = measure.run_json("ours.py", "evaluate", *flags)
        cuts[f"{lanes} × {steps}"] = facts["loss"]
    apart = max(cuts.values()) - min(cuts.values())
    measure.table(
        [f"{few:,} characters, lanes × steps", "loss"], [[name, f"{loss:.7f}"] for name, loss in cuts.items()]
    )
    print(f"\nApart by {apart:.1e} ({target(apart <= 1e-4, '≤ 1e-4')}).")
    print(f"Medians of {rounds} processes a side, in turns. {time.perf_counter() - began:.0f} s.")
    measure.finish(args, {"seconds": found, "losses": cuts})


if __name__ == "__main__":
    main()
