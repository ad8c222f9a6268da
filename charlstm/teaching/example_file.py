"""A worked example in YAML, read into numbers and refused in one sentence when wrong.

Letters: `T` steps, `X` numbers an input, `H` units.

A file holds one cell under its name in `cells.CELLS`, or several that take the same inputs and begin alike:

    source: where the numbers come from                  (text, shown above the work)
    inputs: [1, 5, 7, 4]                                 T numbers, or T lists of X numbers
    h: -1                                                H numbers to begin with
    c: 0
    lstm:                                                and so on for its gates input, candidate and output
      forget: {h: 0.5, x: -10, bias: 0.5}
    readout: {weight: 4, bias: 5, activation: sigmoid}   the output; h itself without; activation none if left out
    target: 0.5                                          what the last output should have been
    learning_rate: 0.001                                 of Adam

The gates of gru are reset, update and candidate; rnn has the candidate alone. A gate takes h (H × H), x (H × X) and
bias (H), with peepholes c as well (H; in peephole-full H × H), and the candidate of gru bias_h, the bias that the reset
gate scales. h and x must be there, other numbers are 0 where left out. A side of length 1 needs no brackets.
"""

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np

from charlstm.cells import CELLS, Array
from charlstm.errors import SettingsError
from charlstm.settings.yaml12 import plain, read_yaml
from charlstm.teaching.worked_example import GATE_NAMES, Example

LEARNING_RATE = 0.001  # torch's own for Adam
LARGEST = 1_000_000  # of the numbers in a file, so that no sum overflows
MAX_FILE_BYTES = 100_000

Numbers: TypeAlias = float | list[float | list[float]]


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
    given = document.fields(("source", "inputs", "h", "c", *CELLS, "readout", "target", "learning_rate"))
    if inputs is not None:
        given["inputs"] = _Found("--inputs", read_yaml(f"[{inputs}]", lambda _: "--inputs: ").value)
    if target is not None:
        given["target"] = _Found("--target", read_yaml(f"[{target}]", lambda _: "--target: ").value)
    if not any(cell in given for cell in CELLS):
        raise document.refuse(f"has no cell, but must have one, under its name: {', '.join(CELLS)}")
    if "inputs" not in given:
        raise document.refuse("has no inputs, but must have a list of them (or give --inputs 1,5,7,4)")
    return _example(given)


def _example(given: Mapping[str, "_Found"]) -> Example:
    """The example that the fields of a file and the command line make."""
    parts = {name: _parts(name, found) for name, found in given.items() if name in CELLS}
    weight_hh = next(found.value for (_, part), found in next(iter(parts.values())).items() if part == "h")
    units = len(weight_hh) or 1 if isinstance(weight_hh, list) else 1
    inputs = given["inputs"].rows()
    cells = {
        name: {
            f"{gate}.{part}": _array(found.get((gate, part)), shape)
            for gate, shapes in _shapes(name, units, inputs.shape[1]).items()
            for part, shape in shapes.items()
        }
        for name, found in parts.items()
    }
    readout = None
    if "readout" in given:
        fields = given["readout"].fields(("weight", "bias", "activation"), required=("weight",))
        readout = fields["activation"].one_of("sigmoid", "none") if "activation" in fields else "none"
        for weights in cells.values():
            weights |= {"readout.weight": fields["weight"].array(units), "readout.bias": _array(fields.get("bias"), ())}
    if "c" in given and not any("c" in CELLS[name].state for name in cells):
        raise given["c"].refuse(f"is given, but {' and '.join(cells)} keeps no cell state: leave it out")
    if len(cells) > 1 and (inputs.shape[1] > 1 or (units > 1 and readout is None)):
        problem = "is a second cell, but cells are compared by one output and inputs of one number"
        raise given[[*cells][1]].refuse(f"{problem}: give one cell, or a readout and such inputs")
    rate = given["learning_rate"].array().item() if "learning_rate" in given else LEARNING_RATE
    if rate <= 0:
        raise given["learning_rate"].refuse(f"is {rate:g}, but must be above 0")
    return Example(
        source=given["source"].words() if "source" in given else "",
        inputs=inputs,
        state={name: _array(given.get(name), (units,)) for name in ("h", "c")},
        cells=cells,
        readout=readout,
        target=given["target"].array(units if readout is None else 1) if "target" in given else None,
        learning_rate=rate,
    )


def _shapes(cell: str, units: int, input_size: int) -> dict[str, dict[str, tuple[int, ...]]]:
    """What each gate of a cell takes in a file, with its shape."""
    gates: dict[str, dict[str, tuple[int, ...]]] = {}
    for letter in CELLS[cell].gates:
        shapes = gates[GATE_NAMES[letter]] = {"h": (units, units), "x": (units, input_size), "bias": (units,)}
        if (shape := CELLS[cell].weight_ch_shape) and letter != "g":
            shapes["c"] = (shape(units)[0] // 3, units)  # three gates have peepholes, their rows one below the other
        if (cell, letter) == ("gru", "n"):
            shapes["bias_h"] = (units,)
    return gates


def _parts(cell: str, found: "_Found") -> dict[tuple[str, str], "_Found"]:
    """What a file gives for each part of each gate of a cell."""
    shapes = _shapes(cell, 1, 1)
    gates = found.fields(shapes, required=shapes)
    return {
        (gate, part): value
        for gate in shapes
        for part, value in gates[gate].fields(shapes[gate], required=("h", "x")).items()
    }


@dataclass(frozen=True)
class _Found:
    """What a user wrote: its dotted name ("" is the whole file), its value, and its place in a file."""

    name: str
    value: Any
    where: str = ""
    line: int = 0

    def refuse(self, problem: str) -> SettingsError:
        """The error that says what is wrong with it."""
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
                raise found[name].refuse(f"is not known, but only {', '.join(known)}")
        for name in required:
            if name not in found:
                raise self.refuse(f"has no {name}, but must have {' and '.join(required)}")
        return found

    def array(self, *shape: int) -> Array:
        """Numbers of this shape, where a side of length 1 needs no brackets."""
        sides = [side for side in shape if side != 1]
        array = self._numbers()
        if array is None or [side for side in array.shape if side != 1] != sides:
            words = ("a number", "a list of {} numbers", "{} lists of {} numbers each")[len(sides)].format(*sides)
            raise self.refuse(f"is {_shown(self.value)}, but must be {words}{_RANGE}")
        return array.reshape(shape)

    def rows(self) -> Array:
        """T numbers, or T lists of X numbers: (T, X)."""
        array = self._numbers()
        if array is None or array.ndim == 0 or array.size == 0:
            words = "a list of numbers, or of lists with equally many numbers,"
            raise self.refuse(f"is {_shown(self.value)}, but must be {words}{_RANGE}")
        return array.reshape(len(array), -1)

    def _numbers(self) -> Array | None:
        """The value as an array; None if it is anything but numbers in range."""
        with suppress(msgspec.ValidationError, ValueError):  # ValueError: lists of different lengths
            array = np.array(msgspec.convert(self.value, Numbers), dtype=np.float64)
            if (np.abs(array) <= LARGEST).all():
                return array
        return None

    def one_of(self, *words: str) -> str:
        """A word, one of these."""
        if self.value not in words:
            raise self.refuse(f"is {_shown(self.value)}, but must be {' or '.join(words)}")
        return str(self.value)

    def words(self) -> str:
        """Text as one line without control characters."""
        if not isinstance(self.value, str):
            raise self.refuse(f"is {_shown(self.value)}, but must be text")
        return " ".join("".join(c if c.isprintable() else " " for c in self.value).split())


_RANGE = f" between -{LARGEST:,} and {LARGEST:,}"


def _array(found: _Found | None, shape: tuple[int, ...]) -> Array:
    """The numbers found, 0 where there are none."""
    return np.zeros(shape) if found is None else found.array(*shape)


def _shown(value: Any) -> str:
    return "a mapping" if isinstance(value, dict) else plain(json.dumps(value))
