"""The same cell by hand and by torch's kernel, number beside number.

Letters: `T` steps, `X` numbers an input, `H` units, `D` directions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from charlstm.cells import CELLS, Array
from charlstm.errors import SettingsError
from charlstm.teaching.worked_example import Example, directions, stack_gates, walk

KERNELS: Mapping[str, str] = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}  # in torch.nn
MATCHES = 1e-12  # a difference of float64 rounding, after some thousand steps too


@dataclass(frozen=True)
class Comparison:
    """What a cell gives by the equations of `cells` and by torch's kernel, with the same weights, in float64.

    by_hand, by_kernel  by name: "h" (T, D·H) after every step, forwards beside backwards; "c" (D·H,) after the last
    """

    by_hand: Mapping[str, Array]
    by_kernel: Mapping[str, Array]

    @property
    def largest_difference(self) -> float:
        """Of all numbers, in size."""
        return max(float(np.abs(self.by_hand[name] - self.by_kernel[name]).max()) for name in self.by_hand)

    @property
    def matches(self) -> bool:
        """Whether nothing but rounding differs."""
        return self.largest_difference <= MATCHES


def compare_with_kernel(example: Example, cell: str) -> Comparison:
    """Walk a cell by hand and by `torch.nn`. Raises SettingsError for a cell with peepholes."""
    if cell not in KERNELS:
        raise SettingsError(f"torch has no cell with peepholes to compare {cell} with: take {', '.join(KERNELS)}")
    return Comparison(_by_hand(example, cell), _by_kernel(example, cell))


def _by_hand(example: Example, cell: str) -> dict[str, Array]:
    weights = example.cells[cell]
    steps = walk(example, cell, weights, example.inputs, np).steps
    of_direction = [[step for step in steps if step.direction == direction] for direction in directions(weights)]
    hidden = [[step.new_state["h"] for step in sorted(steps, key=lambda step: step.number)] for steps in of_direction]
    found = {"h": np.concatenate(hidden, axis=1)}
    if "c" in CELLS[cell].state:
        found["c"] = np.concatenate([steps[-1].new_state["c"] for steps in of_direction])
    return found


def _by_kernel(example: Example, cell: str) -> dict[str, Array]:
    import torch

    weights, ways = example.cells[cell], directions(example.cells[cell])
    input_size, hidden_size = example.inputs.shape[1], len(example.state["h"])
    kernel = getattr(torch.nn, KERNELS[cell])(input_size, hidden_size, bidirectional=len(ways) > 1, dtype=torch.float64)
    layers = zip(ways, ("_l0", "_l0_reverse"), strict=False)
    kernel.load_state_dict(
        {
            f"{name}{suffix}": torch.from_numpy(weight)
            for direction, suffix in layers
            for name, weight in stack_gates(weights, cell, direction, np).items()
        }
    )
    before = [torch.from_numpy(np.tile(example.state[letter], (len(ways), 1))) for letter in CELLS[cell].state]
    with torch.no_grad():
        outputs, last = kernel(torch.from_numpy(example.inputs), tuple(before) if len(before) > 1 else before[0])
    found = {"h": outputs.numpy()}
    if "c" in CELLS[cell].state:
        found["c"] = last[1].numpy().ravel()
    return found
