"""8-bit weights beside float32 for one stream: products, characters a second, how much later it begins; losses.

python benchmarks/int8.py [--rounds N] [--run FOLDER …]   --run: reads that run's validation text with both
"""

import argparse
import tempfile
import timeit
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import measure
from measure import CHARLSTM, Shape, median, spread

from charlstm import environment

SHAPES = [Shape(2, size, 128, 1, 1) for size in (128, 256, 512, 1024)]
READ_CHARS = 50_000


def product_microseconds(size: int) -> str:
    """Of one vector by the weights of layer 2, by NumPy in float32 and float16 and by int8."""
    import numpy as np

    from charlstm.inference.int8 import Int8Matrix

    matrix, vector = np.full((2 * size, 4 * size), 0.1, np.float32), np.full(2 * size, 0.1, np.float32)
    product = np.empty(4 * size, np.float32)
    float32, int8 = partial(np.dot, vector, matrix, product), Int8Matrix(matrix).bind(vector, product)
    float16 = partial(np.dot, vector.astype(np.float16), matrix.astype(np.float16))
    best = [f"{min(timeit.repeat(one, number=5)) / 5 * 1e6:,.0f}" for one in (float32, float16, int8)]
    return " / ".join(best)


def speed_row(shape: Shape, rounds: int, folder: str) -> list[str]:
    generate = ["ours.py", "generate", *shape.flags(), "--threads"]
    sample = [*CHARLSTM, "sample", *measure.untrained_run(Path(folder), shape), "--length", "1", "--set"]
    sides: dict[str, Any] = {
        name: lambda flags=flags: measure.run_json(*generate, *flags)["chars_per_second"]
        for name, flags in {"float32": [1], "2 threads": [2], "int8": [1, "--int8"]}.items()
    }
    for kind in ("float32", "int8"):
        sides[f"first {kind}"] = partial(measure.process_seconds, [*sample, f"sampling.weights={kind}"])
    found = measure.interleaved(sides, rounds)
    float32, two, int8, begins, begins_int8 = map(median, found.values())
    speeds = [f"{median(found[name]):,.0f} (±{spread(found[name])})" for name in ("float32", "2 threads", "int8")]
    later, gain = begins_int8 - begins, 1 / float32 - 1 / int8
    made_up = f"{later / gain:,.0f} chars" if gain > 0 else "never"
    ratios = [f"{int8 / float32:.2f}", f"{int8 / two:.2f}"]
    return [shape.name, product_microseconds(shape.hidden_size), *speeds, *ratios, f"{later:.2f} s", made_up]


def loss_row(folder: Path) -> list[str]:
    """What both read the same text with, each with a state of its own; how far apart any two log-probabilities lie."""
    import numpy as np

    import charlstm
    from charlstm.inference import build_stepper
    from charlstm.inference.sampling import all_log_probs
    from charlstm.runs import read_checkpoint, read_split

    run = charlstm.open_run(folder)
    weights = read_checkpoint(run, "best", model_only=True).weights
    steppers = [build_stepper(weights, run.settings.model, int8=int8) for int8 in (False, True)]
    states, nats, apart = [stepper.zero_state(1) for stepper in steppers], np.zeros(2), []
    for one, following in pairwise(read_split(run, "val", trust_sources=True)[: READ_CHARS + 1].astype(np.intp)):
        stepped = [stepper.step(one[None], state) for stepper, state in zip(steppers, states, strict=True)]
        states = [state for _, state in stepped]
        found = np.concatenate([all_log_probs(logits) for logits, _ in stepped])
        nats -= found[:, following]
        apart.append(float(np.abs(found[0] - found[1]).max()))
    float32, int8 = nats / len(apart)
    name = f"{run.settings.model.num_layers}×{run.settings.model.hidden_size}"
    losses = [f"{float32:.5f}", f"{int8:.5f}", f"{int8 / float32 - 1:+.3%}"]
    return [name, f"{len(apart):,}", *losses, f"{median(apart):.3f}", f"{max(apart):.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--run", type=Path, nargs="+", default=[], metavar="FOLDER")
    args = parser.parse_args()
    environment.limit_numpy_threads()
    measure.begin("8-bit weights")
    with tempfile.TemporaryDirectory() as folder:
        head = ["chars/s", "µs of a product: float32 / float16 / int8", "float32", "float32, 2 threads", "int8"]
        rows = [speed_row(shape, args.rounds, f"{folder}/{shape.name}") for shape in SHAPES]
        measure.table([*head, "ratio", "to 2 threads", "begins later by", "made up after"], rows)
    head = ["trained model", "characters", "float32, nats", "int8", "difference", "farthest apart, median", "highest"]
    measure.table(head, [loss_row(folder) for folder in args.run])


if __name__ == "__main__":
    main()
