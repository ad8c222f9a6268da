"""A cell of one or a few units worked by hand: read from YAML, walked step by step, and taught one step.

Letters: `T` steps, `X` numbers an input, `H` units.

The values come from the step functions of `cells`, in float64; the sums and products beside them are what a person
would write on paper to get there. A file holds one cell, or several that take the same inputs:

    source: where the numbers come from                  (optional, as are h, c, readout, target, learning_rate)
    inputs: [1, 5, 7, 4]                                 T numbers, or T lists of X numbers
    h: -1                                                H numbers; 0 without
    c: 0
    lstm:                                                the cell's name: any of `cells.CELLS`
      forget: {h: 0.5, x: -10, bias: 0.5}                and so on for input, candidate, output
    readout: {weight: 4, bias: 5, activation: sigmoid}   or activation none
    target: 0.5
    learning_rate: 0.001                                 of Adam

gru has the gates reset, update and candidate, rnn the candidate alone. A gate takes h (H × H), x (H × X), bias (H); with
peepholes c too (H; peephole-full H × H); the candidate of gru bias_h too, the bias that its reset gate scales. The
last three are 0 where left out. A side of length 1 needs no brackets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np

from charlstm.cells import CELLS, Array, Gates, Namespace, State, sigmoid
from charlstm.errors import SettingsError
from charlstm.yaml12 import plain, read_yaml

LEARNING_RATE = 0.001  # torch's default for Adam
MAX_FILE_BYTES = 100_000
LARGEST = 1e6  # of any number in a file, so that no sum overflows

GATE_NAMES = {
    "i": "input",
    "f": "forget",
    "g": "candidate",
    "o": "output",
    "r": "reset",
    "z": "update",
    "n": "candidate",
}

Numbers: TypeAlias = float | list[float | list[float]]


@dataclass(frozen=True)
class Example:
    """What a file holds; a cell's weights have their names there ("forget.h": (H, H), …, "readout.bias": ())."""

    source: str
    inputs: Array  # (T, X)
    state: Mapping[str, Array]  # h and c, each (H,)
    cells: Mapping[str, Mapping[str, Array]]
    activation: Literal["sigmoid", "none"] | None  # of the readout; None where there is none
    target: Array | None  # as many numbers as the output
    learning_rate: float


class Step(NamedTuple):
    """One step of a cell as `cells` computed it, every array (1, H) but x, which is (1, X)."""

    x: Array
    state: State
    gates: Gates
    new_state: State


class Lesson(NamedTuple):
    """What one example teaches a cell: gradients of the squared error, and the weights after one Adam step."""

    squared_error: float
    gradients: Mapping[str, Array]
    weights: Mapping[str, Array]


def load_example(path: Path, *, inputs: str | None = None, target: str | None = None) -> Example:
    """The example in a YAML file, with other inputs or another target ("1,5,7,4") if given. Raises SettingsError."""
    where = plain(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content[:MAX_FILE_BYTES].decode()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or bytes that are not UTF-8
        raise SettingsError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_FILE_BYTES:
        raise SettingsError(f"{where} is longer than {MAX_FILE_BYTES:,} bytes, which no worked example should be")
    root = read_yaml(text, lambda line: f"{where}:{line}: ", depth=5)
    document = _Found("", root.value, where, root.line)
    given = document.fields((*_SHARED, *CELLS))
    for name, option in (("inputs", inputs), ("target", target)):
        if option is not None:
            given[name] = _on_command_line(f"--{name}", option)
    if not any(name in CELLS for name in given):
        raise document.refuse(f"has no cell, but must have the weights of one under its name: {', '.join(CELLS)}")
    if "inputs" not in given:
        raise document.refuse("has no inputs, but must have a list of numbers there or in --inputs")
    return _example(given)


_SHARED = ("source", "inputs", "h", "c", "readout", "target", "learning_rate")


def _on_command_line(option: str, text: str) -> "_Found":
    return _Found(option, read_yaml(f"[{text}]", lambda _: f"{option}: ").value)


def _example(given: Mapping[str, "_Found"]) -> Example:
    """The example of the fields that a file and the command line give."""
    cells = {cell: _parts(cell, found) for cell, found in given.items() if cell in CELLS}
    any_weight_hh = next(part for (_, name), part in next(iter(cells.values())).items() if name == "h").value
    units = len(any_weight_hh) if isinstance(any_weight_hh, list) else 1
    inputs = given["inputs"].inputs()

    readout = given["readout"].fields(("weight", "bias", "activation"), required=["weight"]) if "readout" in given else {}
    readout_weights: dict[str, Array] = {}
    if readout:
        readout_weights["readout.weight"] = readout["weight"].array(units)
        readout_weights["readout.bias"] = readout["bias"].array() if "bias" in readout else np.zeros(())
    if "c" in given and not any("c" in CELLS[cell].state for cell in cells):
        raise given["c"].refuse(f"is given, but {' and '.join(cells)} has no cell state")
    rate = given["learning_rate"].array().item() if "learning_rate" in given else LEARNING_RATE
    if rate <= 0:
        raise given["learning_rate"].refuse(f"is {rate:g}, but must be above 0")
    return Example(
        source=given["source"].text() if "source" in given else "",
        inputs=inputs,
        state={name: given[name].array(units) if name in given else np.zeros(units) for name in ("h", "c")},
        cells={cell: _weights(cell, parts, units, inputs.shape[1]) | readout_weights for cell, parts in cells.items()},
        activation=readout["activation"].word("sigmoid", "none") if "activation" in readout else "none",
        target=given["target"].array(1 if readout else units) if "target" in given else None,
        learning_rate=rate,
    )


@dataclass(frozen=True)
class _Found:
    """What a user wrote: its dotted name ("" for the file itself), value, file and line."""

    name: str
    value: Any
    where: str = ""
    line: int = 0

    def refuse(self, problem: str) -> SettingsError:
        """The error that says what is wrong with it, and where it stands."""
        place = f"{self.where}:{self.line}: " if self.where else ""
        return SettingsError(f"{place}{plain(self.name) or 'the worked example'} {problem}")

    def fields(self, known: Collection[str], *, required: Collection[str] = ()) -> dict[str, "_Found"]:
        """The fields of a mapping by their names, in its order."""
        if not isinstance(self.value, dict):
            raise self.refuse(f"is {_shown(self.value)}, but must be a mapping of {', '.join(known)}")
        found = {}
        for name, (value, line) in self.value.items():
            found[name] = _Found(f"{self.name}.{name}".lstrip("."), value, self.where, line)
            if name not in known:
                raise found[name].refuse(f"is not known, but only {', '.join(known)} here")
        if missing := [name for name in required if name not in found]:
            raise self.refuse(f"has no {missing[0]}, but must have {' and '.join(required)}")
        return found

    def array(self, *shape: int) -> Array:
        """Numbers of this shape, where a side of length 1 needs no brackets."""
        sides = [side for side in shape if side != 1]
        array = self._numbers()
        if array is None or [side for side in array.shape if side != 1] != sides:
            words = ("a number", "a list of {} numbers", "{} lists of {} numbers each")[len(sides)].format(*sides)
            raise self.refuse(f"is {_shown(self.value)}, but must be {words}{_RANGE}")
        return array.reshape(shape)

    def inputs(self) -> Array:
        """T numbers, or T lists of X numbers, as (T, X)."""
        array = self._numbers()
        if array is None or array.ndim == 0 or array.size == 0:
            problem = f"is {_shown(self.value)}, but must be a list of numbers, or of lists of equally many numbers"
            raise self.refuse(f"{problem}{_RANGE}")
        return array.reshape(len(array), -1)

    def _numbers(self) -> Array | None:
        """The value as an array, None if it is anything but numbers in range."""
        with suppress(msgspec.ValidationError, ValueError):  # ValueError: lists of different lengths
            array = np.array(msgspec.convert(self.value, Numbers), dtype=np.float64)
            if (np.abs(array) <= LARGEST).all():
                return array
        return None

    def text(self) -> str:
        """Text on one line, without control characters."""
        if not isinstance(self.value, str):
            raise self.refuse(f"is {_shown(self.value)}, but must be text")
        return " ".join("".join(c if c.isprintable() else " " for c in self.value).split())


_RANGE = f" between {-LARGEST:,.0f} and {LARGEST:,.0f}"


def _shown(value: Any) -> str:
    return "a mapping" if isinstance(value, dict) else plain(json.dumps(value, ensure_ascii=False))


def walk(
    example: Example, cell: str, weights: Mapping[str, Array], inputs: Array, xp: Namespace
) -> tuple[list[Step], Array]:
    """Every step of a cell over inputs (T, X), and the last output: (H,), or (1,) with a readout.

    weights: the cell's and the readout's. They and the inputs are all NumPy's or all torch's, as `xp` says.
    """
    names = [GATE_NAMES[letter] for letter in CELLS[cell].gates]
    weight_ih, weight_hh, bias_ih = (
        xp.concatenate([weights[f"{name}.{part}"] for name in names]) for part in ("x", "h", "bias")
    )
    no_bias = xp.zeros_like(weights[f"{names[0]}.bias"])
    bias_hh = xp.concatenate([weights.get(f"{name}.bias_h", no_bias) for name in names])
    peepholes = [weights[f"{name}.c"] for name in names if f"{name}.c" in weights]
    weight_ch = xp.concatenate(peepholes) if peepholes else None
    state = tuple(xp.asarray(example.state[name])[None] for name in CELLS[cell].state)
    steps = []
    for x in inputs[:, None]:
        from_input, from_hidden = x @ weight_ih.T + bias_ih, state[0] @ weight_hh.T + bias_hh
        new_state, gates = CELLS[cell].step(from_input, from_hidden, state, weight_ch, xp)
        steps.append(Step(x, state, gates, new_state))
        state = new_state
    output = state[0][0]
    if example.activation is not None:
        output = (output @ weights["readout.weight"] + weights["readout.bias"])[None]
        output = sigmoid(output, xp) if example.activation == "sigmoid" else output
    return steps, output


def learn(example: Example, cell: str) -> Lesson:
    """The squared error of the last output, its gradients by torch's autograd, and one step of torch's Adam."""
    import torch

    weights, inputs = _tensors(example, cell)
    _, output = walk(example, cell, weights, inputs, torch)
    error = (output - torch.asarray(example.target)).square().sum()
    error.backward()
    gradients = {name: weight.grad.numpy().copy() for name, weight in weights.items()}
    torch.optim.Adam(list(weights.values()), lr=example.learning_rate).step()
    after = {name: weight.detach().numpy() for name, weight in weights.items()}
    return Lesson(float(error), gradients, after)


def input_gradients(example: Example, cell: str) -> Array:
    """The gradient of the last output (one number) by each input: (T, X)."""
    import torch

    weights, inputs = _tensors(example, cell)
    _, output = walk(example, cell, weights, inputs, torch)
    output.sum().backward()
    return inputs.grad.numpy()


def _tensors(example: Example, cell: str) -> tuple[dict[str, Array], Array]:
    """Weights and inputs as fresh torch leaves."""
    import torch

    weights = {name: torch.tensor(value, requires_grad=True) for name, value in example.cells[cell].items()}
    return weights, torch.tensor(example.inputs, requires_grad=True)


