"""A cell of one or a few units worked by hand: walked step by step, and taught.

Letters: `T` steps, `X` numbers an input, `H` units, `D` directions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import NamedTuple, cast

import numpy as np

from charlstm.cells import CELLS, LETTERS, Array, CellStep, Namespace, sigmoid

BACKWARDS = "backwards."  # begins the names of the weights that read the inputs from the last to the first


@dataclass(frozen=True)
class Example:
    """Cells, their inputs and what each direction begins with.

    Weights are called "forget.h" (H, H), …, "backwards.forget.h", …, "readout.weight" (D·H,), "readout.bias" ().
    """

    source: str
    inputs: Array  # (T, X)
    state: Mapping[str, Array]  # h and c to begin with, each (H,)
    cells: Mapping[str, Mapping[str, Array]]  # the weights of each, with those of the readout
    readout: str | None  # its activation, sigmoid or none; None where the output is h
    target: Array | None  # as many numbers as the output
    learning_rate: float


class WorkedStep(NamedTuple):
    """One step of a cell as `cells` computed it: x (X,), and by their letters there state and gates, each (H,)."""

    direction: str  # as the names of its weights begin: "" or BACKWARDS
    number: int  # of the input, from 1
    x: Array
    state: Mapping[str, Array]
    gates: Mapping[str, Array]
    new_state: Mapping[str, Array]

    @property
    def title(self) -> str:
        """Which step it is, in words."""
        return f"{'backwards, ' * bool(self.direction)}step {self.number}"


class Walk(NamedTuple):
    """Every step of a cell, forwards and then backwards, the output, and h (D·H,) after the last step of each."""

    steps: list[WorkedStep]
    output: Array
    hidden: Array


class Lesson(NamedTuple):
    """What steps of Adam teach a cell.

    squared_errors  before the first step and after each
    outputs         the last output, as often
    gradients       of the squared error before the first step
    weights         after the last step
    """

    squared_errors: tuple[float, ...]
    outputs: tuple[Array, ...]
    gradients: Mapping[str, Array]
    weights: Mapping[str, Array]


def walk(example: Example, cell: str, weights: Mapping[str, Array], inputs: Array, xp: Namespace) -> Walk:
    """Walk a cell over inputs (T, X), and back if it has weights for that; the output is (D·H,), or (1,) of a readout.

    weights: as in `Example.cells`. They and the inputs are all NumPy's or all torch's, as `xp` says.
    """
    step, squash = (CELLS[cell].step, sigmoid) if xp is np else (_with_exact_slopes(CELLS[cell].step), _exact_sigmoid)
    letters, gate_letters = CELLS[cell].state, CELLS[cell].gates
    steps, ends = [], []
    for direction in directions(weights):
        layer = stack_gates(weights, cell, direction, xp)
        state = tuple(xp.asarray(example.state[letter])[None] for letter in letters)
        for t in reversed(range(len(inputs))) if direction else range(len(inputs)):
            old, x = _named(letters, state), inputs[t : t + 1]
            from_input = x @ layer["weight_ih"].T + layer["bias_ih"]
            from_hidden = state[0] @ layer["weight_hh"].T + layer["bias_hh"]
            state, gates = step(from_input, from_hidden, state, layer.get("weight_ch"), xp)
            named = _named(gate_letters, gates), _named(letters, state)
            steps.append(WorkedStep(direction, t + 1, x[0], old, *named))
        ends.append(state[0][0])
    output = hidden = xp.concatenate(ends)
    if example.readout is not None:
        output = (hidden @ weights["readout.weight"] + weights["readout.bias"])[None]
        output = squash(output, xp) if example.readout == "sigmoid" else output
    return Walk(steps, output, hidden)


def directions(weights: Mapping[str, Array]) -> list[str]:
    """How the names of the weights of each direction begin."""
    return ["", BACKWARDS] if any(name.startswith(BACKWARDS) for name in weights) else [""]


def stack_gates(weights: Mapping[str, Array], cell: str, direction: str, xp: Namespace) -> dict[str, Array]:
    """The weights of one direction as `Cell.weight_shapes` has them, the gates one below the other."""
    gates = [f"{direction}{LETTERS[letter].name}" for letter in CELLS[cell].gates]
    no_bias = xp.zeros_like(weights[f"{gates[0]}.bias"])
    parts = {"weight_ih": "x", "weight_hh": "h", "bias_ih": "bias"}
    layer = {name: xp.concatenate([weights[f"{gate}.{part}"] for gate in gates]) for name, part in parts.items()}
    layer["bias_hh"] = xp.concatenate([weights.get(f"{gate}.bias_h", no_bias) for gate in gates])
    if peepholes := [weights[f"{gate}.c"] for gate in gates if f"{gate}.c" in weights]:
        layer["weight_ch"] = xp.concatenate(peepholes)
    return layer


def _named(letters: Sequence[str], arrays: Sequence[Array]) -> dict[str, Array]:
    return {letter: array[0] for letter, array in zip(letters, arrays, strict=True)}


def _exact_sigmoid(x: Array, xp: Namespace) -> Array:
    """σ(x) by which autograd finds σ(x)·σ(−x) for every x; that of `cells`, one operation, cancels above 30."""
    smaller = x.clip(max=0.0)
    return xp.exp(smaller) / (xp.exp(2.0 * smaller - x) + 1.0)  # 2·min(x, 0) − x is −|x|, with a slope at 0 too


def _with_exact_slopes(step: CellStep) -> CellStep:
    """The very same code with `_exact_sigmoid` where it says `sigmoid`."""
    written = cast(FunctionType, step)
    return FunctionType(written.__code__, {**written.__globals__, "sigmoid": _exact_sigmoid})


def learn(example: Example, cell: str, *, steps: int = 1) -> Lesson:
    """The squared error of the last output, its gradients by torch's autograd, and steps of torch's Adam."""
    import torch

    weights, inputs = _tensors(example, cell)
    adam = torch.optim.Adam(list(weights.values()), lr=example.learning_rate)
    target, outputs, errors = torch.asarray(example.target), [], []
    gradients: dict[str, Array] = {}
    for number in range(steps + 1):
        output = walk(example, cell, weights, inputs, torch).output
        error = (output - target).square().sum()
        outputs.append(output.detach().numpy())
        errors.append(error.item())
        if number < steps:
            adam.zero_grad()
            error.backward()
            gradients = gradients or {name: weight.grad.numpy().copy() for name, weight in weights.items()}
            adam.step()
    learned = {name: weight.detach().numpy() for name, weight in weights.items()}
    return Lesson(tuple(errors), tuple(outputs), gradients, learned)


def input_gradients(example: Example, cell: str) -> Array:
    """The gradient of the last output (of their sum, if it is several numbers) by each input: (T, X)."""
    import torch

    weights, inputs = _tensors(example, cell)
    walk(example, cell, weights, inputs, torch).output.sum().backward()
    return inputs.grad.numpy()


def _tensors(example: Example, cell: str) -> tuple[dict[str, Array], Array]:
    """Weights and inputs as leaves of a graph of torch's."""
    import torch

    weights = {name: torch.tensor(weight, requires_grad=True) for name, weight in example.cells[cell].items()}
    return weights, torch.tensor(example.inputs, requires_grad=True)
