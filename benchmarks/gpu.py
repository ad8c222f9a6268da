"""Training on a CUDA device: steps beside the plain trainer's, microseconds a time step and layer, and repeated bits.

python benchmarks/gpu.py [--quick] [--rounds N] [--json FILE]

Not tried yet: it was written on a machine that has none.
"""

from functools import partial

import measure
from measure import Shape, median, target

SHAPES = [Shape(2, 512, 128, lanes, 128) for lanes in (32, 64, 128)]
RATIO, MICROSECONDS = 1.5, 8.0  # to the plain trainer; a time step and layer, forward and backward


def step_seconds(program: str, shape: Shape, steps: int, *options: str) -> float:
    """Of the median step of one process."""
    flags = [*shape.flags(), "--warmup-steps", 20, "--steps", steps, *options]
    return median(measure.run_json(program, "train", *flags)["step_seconds"])


def main() -> None:
    args = measure.options(__doc__)
    measure.begin("Training on a CUDA device")
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("\ntorch sees no CUDA device here: nothing was measured")
    print(f"\n{torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}")  # type: ignore[no-untyped-call]
    rounds, steps = args.rounds or (1 if args.quick else 5), 20 if args.quick else 100
    figures, rows = {}, []
    for shape in SHAPES:
        sides = {"plain": partial(step_seconds, "plain.py", shape, steps)}
        sides |= {
            name: partial(step_seconds, "ours.py", shape, steps, "--precision", name) for name in ("bf16", "fp16")
        }
        figures[shape.long_name] = found = measure.interleaved(sides, rounds)
        for precision in ("bf16", "fp16"):
            plain, ours = median(found["plain"]), median(found[precision])
            each = 1e6 * ours / shape.sequence_length / shape.num_layers
            flags = [*shape.flags(), "--steps", 20, "--precision", precision]
            losses = [measure.run_json("ours.py", "train", *flags)["losses"] for _ in range(2)]
            rows.append(
                [
                    f"{shape.long_name}, {precision}",
                    f"{1e3 * plain:.1f} ms",
                    f"{1e3 * ours:.1f} ms",
                    target(plain / ours >= RATIO, f"{plain / ours:.2f} ≥ {RATIO}"),
                    target(each <= MICROSECONDS, f"{each:.1f} µs ≤ {MICROSECONDS:g}"),
                    "yes" if losses[0] == losses[1] else "no",
                ]
            )
    head = ["shape", "plain, a step", "ours", "ratio", "a time step and layer", "the same losses twice"]
    measure.table(head, rows)
    measure.finish(args, figures)


if __name__ == "__main__":
    main()
