"""The work on paper: every step of a small cell as the lines a person would write, sums and products spelled out.

Letters: `H` units. The values are those of `cells`; what stands beside them only shows how they come about.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from charlstm.cells import CELLS, Array
from charlstm.worked import GATE_NAMES, Example, Step, walk

Product: TypeAlias = tuple[float, ...]  # its factors
Sum: TypeAlias = tuple[Product, ...]
Activation: TypeAlias = Literal["sigmoid", "tanh", "none"]


class Stage(NamedTuple):
    """One line of the work, for each unit: `value` is the activation of a sum of products."""

    name: str
    sums: tuple[Sum, ...]
    activation: Activation
    value: tuple[float, ...]

    @property
    def totals(self) -> tuple[float, ...]:
        """What the activation sees, for each unit."""
        return tuple(math.fsum(map(math.prod, products)) for products in self.sums)


def paper_work(example: Example, cell: str) -> list[list[Stage]]:
    """For every step of a cell the lines of the work on paper, the readout after the last."""
    weights = example.cells[cell]
    steps, output = walk(example, cell, weights, example.inputs, np)
    work = [_WORK[cell](cell, weights, step) for step in steps]
    if example.activation is not None:
        products = [*zip(weights["readout.weight"], steps[-1].new_state[0][0], strict=True)]
        sums = ((*products, (weights["readout.bias"],)),)
        work[-1].append(Stage("readout", _floats(sums), example.activation, _floats(output)))
    return work


def _lstm_work(cell: str, weights: Mapping[str, Array], step: Step) -> list[Stage]:
    i, f, g, o = (gate[0] for gate in step.gates)
    c, (new_h, new_c) = step.state[1][0], (array[0] for array in step.new_state)
    shown = np.tanh(new_c)
    return [
        _gate(cell, weights, step, "f"),
        _combined("c_kept", f * c, (f, c)),
        _gate(cell, weights, step, "g"),
        _gate(cell, weights, step, "i"),
        _combined("c_written", i * g, (i, g)),
        _combined("new_c", new_c, (f * c,), (i * g,)),
        _combined("tanh_of_new_c", shown, (new_c,), activation="tanh"),
        _gate(cell, weights, step, "o"),
        _combined("new_h", new_h, (o, shown)),
    ]


def _gru_work(cell: str, weights: Mapping[str, Array], step: Step) -> list[Stage]:
    _, z, n = (gate[0] for gate in step.gates)
    h, new_h = step.state[0][0], step.new_state[0][0]
    return [
        *(_gate(cell, weights, step, letter) for letter in "rzn"),
        _combined("h_kept", z * h, (z, h)),
        _combined("h_written", (1 - z) * n, (1 - z, n)),
        _combined("new_h", new_h, (z * h,), ((1 - z) * n,)),
    ]


def _rnn_work(cell: str, weights: Mapping[str, Array], step: Step) -> list[Stage]:
    return [_gate(cell, weights, step, "n"), _combined("new_h", step.new_state[0][0], (step.gates[0][0],))]


_WORK = {"lstm": _lstm_work, "peephole": _lstm_work, "peephole-full": _lstm_work, "gru": _gru_work, "rnn": _rnn_work}


def _combined(name: str, value: Array, *products: tuple[Array, ...], activation: Activation = "none") -> Stage:
    """A stage whose every unit adds the same products, each of (H,) arrays."""
    sums = tuple(tuple(tuple(factor[u] for factor in product) for product in products) for u in range(len(value)))
    return Stage(name, _floats(sums), activation, _floats(value))


def _gate(cell: str, weights: Mapping[str, Array], step: Step, letter: str) -> Stage:
    """What a gate sees, product by product: h, x, the cell state where it looks there, and the bias."""
    name = GATE_NAMES[letter]
    h, x = step.state[0][0], step.x[0]
    sums = []
    for u in range(len(h)):
        products = [*zip(weights[f"{name}.h"][u], h, strict=True)]
        if f"{name}.bias_h" in weights:  # the reset gate scales what comes from h
            reset = step.gates[0][0, u]
            products = [(reset, *product) for product in [*products, (weights[f"{name}.bias_h"][u],)]]
        products += zip(weights[f"{name}.x"][u], x, strict=True)
        if f"{name}.c" in weights:
            c = (step.new_state if (cell, letter) == ("peephole", "o") else step.state)[1][0]
            rows = weights[f"{name}.c"]
            products += zip(rows[u], c, strict=True) if len(rows) == len(h) else [(rows[0, u], c[u])]
        sums.append((*products, (weights[f"{name}.bias"][u],)))
    value = step.gates[CELLS[cell].gates.index(letter)][0]
    if name == "candidate":
        return Stage(name, _floats(sums), "tanh", _floats(value))
    return Stage(f"{name}_gate", _floats(sums), "sigmoid", _floats(value))


def _floats(numbers: Any) -> Any:
    """Nested sequences of NumPy numbers as nested tuples of Python's."""
    return tuple(map(_floats, numbers)) if isinstance(numbers, tuple | list) or np.ndim(numbers) else float(numbers)
