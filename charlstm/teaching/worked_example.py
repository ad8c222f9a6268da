"""A cell of one or a few units worked by hand: walked step by step, and taught one step.

Letters: `T` steps, `X` numbers an input, `H` units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from charlstm.cells import CELLS, LETTERS, Array, Namespace, sigmoid


@dataclass(frozen=True)
class Example:
    """Cells, their inputs and what they begin with. Weights are called "forget.h" (H, H), …, "readout.bias" ()."""

    source: str
    inputs: Array  # (T, X)
    state: Mapping[str, Array]  # h and c to begin with, each (H,)
    cells: Mapping[str, Mapping[str, Array]]  # the weights of each, with those of the readout
    readout: str | None  # its activation, sigmoid or none; None where the output is h
    target: Array | None  # as many numbers as the output
    learning_rate: float


class WorkedStep(NamedTuple):
    """One step of a cell as `cells` computed it: x (X,), and by their letters there state and gates, each (H,)."""

    x: Array
    state: Mapping[str, Array]
    gates: Mapping[str, Array]
    new_state: Mapping[str, Array]


class Lesson(NamedTuple):
    """What an example teaches a cell: the gradients of the squared error, and the weights after one step of Adam."""

    squared_error: float
    gradients: Mapping[str, Array]
    weights: Mapping[str, Array]


def walk(
    example: Example, cell: str, weights: Mapping[str, Array], inputs: Array, xp: Namespace
) -> tuple[list[WorkedStep], Array]:
    """Every step of a cell over inputs (T, X), and the last output: (H,), or (1,) of a readout.

    weights: as in `Example.cells`. They and the inputs are all NumPy's or all torch's, as `xp` says.
    """
    names = [LETTERS[letter].name for letter in CELLS[cell].gates]
    weight_ih, weight_hh, bias_ih = (
        xp.concatenate([weights[f"{name}.{part}"] for name in names]) for part in ("x", "h", "bias")
    )
    no_bias = xp.zeros_like(weights[f"{names[0]}.bias"])
    bias_hh = xp.concatenate([weights.get(f"{name}.bias_h", no_bias) for name in names])
    peepholes = [weights[f"{name}.c"] for name in names if f"{name}.c" in weights]
    weight_ch = xp.concatenate(peepholes) if peepholes else None
    state = tuple(xp.asarray(example.state[letter])[None] for letter in CELLS[cell].state)
    steps = []
    for x in inputs[:, None]:
        old = _named(CELLS[cell].state, state)
        from_input, from_hidden = x @ weight_ih.T + bias_ih, state[0] @ weight_hh.T + bias_hh
        state, gates = CELLS[cell].step(from_input, from_hidden, state, weight_ch, xp)
        steps.append(WorkedStep(x[0], old, _named(CELLS[cell].gates, gates), _named(CELLS[cell].state, state)))
    output = state[0][0]
    if example.readout is not None:
        output = (output @ weights["readout.weight"] + weights["readout.bias"])[None]
        output = sigmoid(output, xp) if example.readout == "sigmoid" else output
    return steps, output


def _named(letters: Sequence[str], arrays: Sequence[Array]) -> dict[str, Array]:
    return {letter: array[0] for letter, array in zip(letters, arrays, strict=True)}


def learn(example: Example, cell: str) -> Lesson:
    """The squared error of the last output, its gradients by torch's autograd, and one step of torch's Adam."""
    import torch

    weights, inputs = _tensors(example, cell)
    output = walk(example, cell, weights, inputs, torch)[1]
    squared_error = (output - torch.asarray(example.target)).square().sum()
    squared_error.backward()
    gradients = {name: weight.grad.numpy() for name, weight in weights.items()}
    torch.optim.Adam(list(weights.values()), lr=example.learning_rate).step()
    return Lesson(squared_error.item(), gradients, {name: weight.detach().numpy() for name, weight in weights.items()})


def input_gradients(example: Example, cell: str) -> Array:
    """The gradient of the last output (of their sum, if it is several numbers) by each input: (T, X)."""
    import torch

    weights, inputs = _tensors(example, cell)
    walk(example, cell, weights, inputs, torch)[1].sum().backward()
    return inputs.grad.numpy()


def _tensors(example: Example, cell: str) -> tuple[dict[str, Array], Array]:
    """Weights and inputs as leaves of a graph of torch's."""
    import torch

    weights = {name: torch.tensor(weight, requires_grad=True) for name, weight in example.cells[cell].items()}
    return weights, torch.tensor(example.inputs, requires_grad=True)
