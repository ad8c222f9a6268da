"""The work on paper: every step of a small cell as the lines a person would write, sums and products spelled out.

Letters: `H` units. The values are those of `cells`; what stands beside them only shows how they come about.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from charlstm.cells import CELLS, LETTERS, Array
from charlstm.teaching.worked_example import Example, WorkedStep, walk

Product: TypeAlias = tuple[float, ...]  # its factors
Sum: TypeAlias = tuple[Product, ...]


class Stage(NamedTuple):
    """One line of the work, for each unit: `value` is the activation of a sum of products.

    `addends` says how many of the products, in order, belong to each product of vectors.
    """

    name: str
    sums: tuple[Sum, ...]
    activation: str  # sigmoid, tanh or none
    value: tuple[float, ...]
    addends: tuple[int, ...]

    @property
    def totals(self) -> tuple[float, ...]:
        """What the activation sees, for each unit."""
        return tuple(math.fsum(map(math.prod, products)) for products in self.sums)


class Work(NamedTuple):
    """What becomes of one cell of an example: its steps, the lines for each of them, and the last output."""

    steps: list[WorkedStep]
    stages: list[list[Stage]]
    output: Array


def work_out(example: Example, cell: str) -> Work:
    """Walk a cell through its inputs, writing every step down, and the readout after the last."""
    weights = example.cells[cell]
    steps, output, hidden = walk(example, cell, weights, example.inputs, np)
    write_down = _STAGES["".join(CELLS[cell].gates)]
    stages = [write_down(cell, weights, step) for step in steps]
    if example.readout is not None:
        sums = [(*zip(weights["readout.weight"], hidden, strict=True), (weights["readout.bias"],))]
        stages[-1].append(Stage("readout", _floats(sums), example.readout, _floats(output), (len(hidden), 1)))
    return Work(steps, stages, output)


def _lstm_stages(cell: str, weights: Mapping[str, Array], step: WorkedStep) -> list[Stage]:
    i, f, g, o = (step.gates[letter] for letter in "ifgo")
    c, new_c, new_h = step.state["c"], step.new_state["c"], step.new_state["h"]
    shown = np.tanh(new_c)
    return [
        _gate(cell, weights, step, "f"),
        _combined("c_kept", f * c, (f, c)),
        _gate(cell, weights, step, "g"),
        _gate(cell, weights, step, "i"),
        _combined("c_written", i * g, (i, g)),
        _combined("new_c", new_c, (f * c,), (i * g,)),
        _combined("tanh_c", shown, (new_c,), activation="tanh"),
        _gate(cell, weights, step, "o"),
        _combined("new_h", new_h, (o, shown)),
    ]


def _gru_stages(cell: str, weights: Mapping[str, Array], step: WorkedStep) -> list[Stage]:
    z, n, h = step.gates["z"], step.gates["n"], step.state["h"]
    return [
        *(_gate(cell, weights, step, letter) for letter in "rzn"),
        _combined("h_kept", z * h, (z, h)),
        _combined("h_written", (1 - z) * n, (1 - z, n)),
        _combined("new_h", step.new_state["h"], (z * h,), ((1 - z) * n,)),
    ]


def _rnn_stages(cell: str, weights: Mapping[str, Array], step: WorkedStep) -> list[Stage]:
    return [_gate(cell, weights, step, "n"), _combined("new_h", step.new_state["h"], (step.gates["n"],))]


_STAGES = {"ifgo": _lstm_stages, "rzn": _gru_stages, "n": _rnn_stages}  # by what the gates make of the state


def _combined(name: str, value: Array, *products: tuple[Array, ...], activation: str = "none") -> Stage:
    """A stage whose every unit adds the same products, each of (H,) arrays."""
    sums = tuple(tuple(tuple(factor[u] for factor in product) for product in products) for u in range(len(value)))
    return Stage(name, _floats(sums), activation, _floats(value), (1,) * len(products))


def _gate(cell: str, weights: Mapping[str, Array], step: WorkedStep, letter: str) -> Stage:
    """What a gate sees, product by product: h, x, the cell state where it looks there, and the bias."""
    name, _, verb = LETTERS[letter]
    prefix = f"{step.direction}{name}."
    of = {key.removeprefix(prefix): weight for key, weight in weights.items() if key.startswith(prefix)}
    h, x = step.state["h"], step.x
    sums = []
    for u in range(len(h)):
        addends: list[list[Product]] = [[*zip(of["h"][u], h, strict=True)]]
        if "bias_h" in of:  # the reset gate scales what comes from h
            addends = [[(step.gates["r"][u], *product) for product in [*addends[0], (of["bias_h"][u],)]]]
        addends.append([*zip(of["x"][u], x, strict=True)])
        if "c" in of:
            c = (step.new_state if (cell, letter) == ("peephole", "o") else step.state)["c"]
            addends.append([*zip(of["c"][u], c, strict=True)] if len(of["c"]) == len(h) else [(of["c"][0, u], c[u])])
        addends.append([(of["bias"][u],)])
        sums.append([product for products in addends for product in products])
    title, activation = (f"{name}_gate", "sigmoid") if verb else (name, "tanh")
    return Stage(title, _floats(sums), activation, _floats(step.gates[letter]), tuple(map(len, addends)))


def _floats(numbers: Any) -> Any:
    """Nested sequences of NumPy numbers as nested tuples of Python's."""
    return tuple(map(_floats, numbers)) if isinstance(numbers, tuple | list) or np.ndim(numbers) else float(numbers)


def rounded(x: float) -> str:
    """A number as one writes it down: four decimals, or three figures where those would hide it."""
    return f"{x:.4f}" if x == 0 or abs(x) >= 0.001 else f"{x:.2e}"


def short(x: float) -> str:
    """As `rounded`, without needless zeros."""
    text = rounded(x + 0.0)  # -0.0 is 0
    return text if "e" in text else text.rstrip("0").rstrip(".")
