"""Weights of worked examples, and whole examples, drawn from a seed.

Letters: `T` steps, `X` numbers an input, `H` units, `D` directions.
"""

import numpy as np

from charlstm.cells import CELLS, LETTERS, Array
from charlstm.teaching.worked_example import BACKWARDS, Example

MOST_UNITS = 64  # of a drawn cell, whose work is written out product by product


def gate_shapes(cell: str, units: int, input_size: int) -> dict[str, dict[str, tuple[int, ...]]]:
    """The weights of each gate of a cell as a worked example has them, by the gate's name and their own."""
    gates: dict[str, dict[str, tuple[int, ...]]] = {}
    for letter in CELLS[cell].gates:
        shapes = gates[LETTERS[letter].name] = {"h": (units, units), "x": (units, input_size), "bias": (units,)}
        if (shape := CELLS[cell].weight_ch_shape) and letter != "g":
            shapes["c"] = (shape(units)[0] // 3, units)  # three gates have peepholes, their rows one below the other
        if (cell, letter) == ("gru", "n"):
            shapes["bias_h"] = (units,)  # the reset gate scales it
    return gates


def draw_weights(
    cell: str, *, hidden_size: int, input_size: int, seed: int, bidirectional: bool, readout: bool
) -> dict[str, Array]:
    """Every weight between −1/√H and 1/√H, as torch's recurrent layers begin, by its name in `Example.cells`."""
    random, bound = np.random.default_rng(seed), hidden_size**-0.5
    shapes = {
        f"{direction}{gate}.{part}": shape
        for direction in ("", BACKWARDS)[: 1 + bidirectional]
        for gate, parts in gate_shapes(cell, hidden_size, input_size).items()
        for part, shape in parts.items()
    }
    if readout:
        shapes |= {"readout.weight": ((1 + bidirectional) * hidden_size,), "readout.bias": ()}
    return {name: np.asarray(random.uniform(-bound, bound, shape)) for name, shape in shapes.items()}


def draw_example(
    cell: str, *, hidden_size: int, input_size: int, steps: int, seed: int, bidirectional: bool
) -> Example:
    """A cell with weights from a seed; its inputs and what it begins with are normally distributed."""
    random = np.random.default_rng([seed, 1])  # other numbers than those of the weights
    weights = draw_weights(
        cell, hidden_size=hidden_size, input_size=input_size, seed=seed, bidirectional=bidirectional, readout=False
    )
    return Example(
        source=f"drawn from seed {seed}",
        inputs=random.standard_normal((steps, input_size)),
        state={letter: random.standard_normal(hidden_size) for letter in ("h", "c")},
        cells={cell: weights},
        readout=None,
        target=None,
        learning_rate=0.001,
    )
