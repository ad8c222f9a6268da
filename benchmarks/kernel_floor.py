"""What a compiled kernel for one LSTM layer could bring: the time of its parts, beside torch's own kernel (oneDNN).

python benchmarks/kernel_floor.py [--quick] [--rounds N] [--json FILE]

One thread, bf16, T = 64, forward and backward. The parts are those that cannot be left out: a product a step with the
recurrent weights, forward and backward, from weights that are laid out for it beforehand; the products with the input
and all gradients of weights in one product each over all steps; and the gates' equations in float32, in cache.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import measure
from measure import median

STEPS = 64
SIZES = [(256, 16), (256, 32), (256, 64), (512, 16), (512, 32), (512, 64)]  # hidden size, lanes


def seconds_of(call: Callable[[], object]) -> float:
    """The median of some calls, after two."""
    found = []
    for number in range(9):
        begin = time.perf_counter()
        call()
        found += [time.perf_counter() - begin] if number > 1 else []
    return median(found)


def layer(size: int, lanes: int) -> float:
    """Torch's layer, forward and backward."""
    import torch

    kernel = torch.nn.LSTM(size, size).bfloat16()
    x = torch.randn(STEPS, lanes, size, dtype=torch.bfloat16, requires_grad=True)
    wanted = [x, *kernel.parameters()]
    return seconds_of(lambda: torch.autograd.grad(kernel(x)[0].sum(), wanted))


def parts(size: int, lanes: int) -> dict[str, float]:
    """Seconds of each part of a kernel."""
    import torch

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.bfloat16)

    def thin(columns: int, rows: int) -> float:
        """One product a step, (B, columns) by weights (rows, columns)."""
        weight = torch.ops.mkldnn._reorder_linear_weight(random(rows, columns).to_mkldnn(), lanes)
        x = random(lanes, columns)
        product = partial(torch.ops.mkldnn._linear_pointwise, x, weight, None, "none", [], "")
        return seconds_of(lambda: [product() for _ in range(STEPS)])

    gates, inputs, weight = random(STEPS * lanes, 4 * size), random(STEPS * lanes, size), random(size, 4 * size)
    block, state = torch.randn(lanes, 4 * size), torch.randn(lanes, size)

    def equations() -> None:
        """About what the gates take, forward and backward: five passes of tanh's and 24 of products' cost."""
        for _ in range(STEPS):
            torch.tanh(block)
            torch.tanh(state)
            for _ in range(6):
                block * block  # four passes of (B, H)

    with torch.no_grad():
        return {
            "recurrent products": thin(size, 4 * size) + thin(4 * size, size),
            "products with inputs": seconds_of(lambda: inputs @ weight) + seconds_of(lambda: gates @ weight.T),
            "gradients of weights": 2 * seconds_of(lambda: gates.T @ inputs),
            "equations of the gates": seconds_of(equations),
        }


def main() -> None:
    args = measure.options(__doc__)
    rounds = args.rounds or (1 if args.quick else 3)
    measure.begin("What a compiled kernel could bring")
    import torch

    torch.set_num_threads(1)
    rows, figures = [], []
    for size, lanes in SIZES:
        found: list[dict[str, float]] = [{"layer": layer(size, lanes), **parts(size, lanes)} for _ in range(rounds)]
        shown: dict[str, Any] = {name: median([each[name] for each in found]) for name in found[0]}
        figures.append({"size": size, "lanes": lanes, **shown})
        whole = shown.pop("layer")
        floor = sum(shown.values())
        row = [f"{size}, {lanes}", f"{1e3 * whole:.1f}", *(f"{1e3 * seconds:.1f}" for seconds in shown.values())]
        rows.append([*row, f"{1e3 * floor:.1f}", f"{whole / floor:.2f}"])
    measure.table(["hidden size, lanes; ms", "torch's layer", *shown, "all parts", "ratio"], rows)
    measure.finish(args, figures)


if __name__ == "__main__":
    main()
