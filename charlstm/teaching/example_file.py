"""The file of a worked example: YAML, read into these structs as the settings are, and then into arrays.

Letters: `T` steps, `X` numbers an input, `H` units, `D` directions.

A file holds one cell under its name in `cells.CELLS`, or several that take the same inputs and begin alike:

    source: where the numbers come from                  (text, shown above the work)
    inputs: [1, 5, 7, 4]
    h: -1
    c: 0
    lstm:
      forget: {h: 0.5, x: -10, bias: 0.5}                and so on for its gates input, candidate and output
    readout: {weight: 4, bias: 5, activation: sigmoid}   the output; h itself without
    target: 0.5                                          what the last output should have been
    learning_rate: 0.001                                 of Adam

A cell may have a second set of gates, `backwards`, that reads the inputs from the last to the first. In place of a
cell, `drawn: {cell: lstm, hidden_size: 3, seed: 1}` draws all weights. A side of length 1 needs no brackets.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from msgspec import Meta, Struct, defstruct, field

from charlstm.cells import CELLS, Array
from charlstm.settings import CellName, Located, expected, load_yaml, read_document, read_yaml
from charlstm.teaching.drawn_example import MOST_UNITS, draw_weights, gate_shapes
from charlstm.teaching.worked_example import BACKWARDS, Example, directions

LARGEST = 1_000_000  # of the numbers in a file, so that no sum overflows
_RANGE = f"between -{LARGEST:,} and {LARGEST:,}"
_ROWS = "a list of numbers, or of lists with equally many numbers"

Number: TypeAlias = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Numbers: TypeAlias = Annotated[
    Number | list[Number | list[Number]],
    Meta(extra={"words": f"a number {_RANGE}, or a list of such numbers, or of lists of them"}),
]
Rows: TypeAlias = Annotated[list[Number | list[Number]], Meta(min_length=1, extra={"words": f"{_ROWS}, {_RANGE}"})]


class Readout(Struct, frozen=True):
    """The output as a function of the last h, in two directions of both."""

    weight: Numbers | None = None  # (D·H,), must be there unless it is drawn
    bias: Numbers = 0.0
    activation: Literal["sigmoid", "none"] = "none"


class Drawn(Struct, frozen=True):
    """A cell whose weights come from a seed."""

    cell: CellName
    hidden_size: Annotated[int, Meta(ge=1, le=MOST_UNITS)] = 1
    seed: Annotated[int, Meta(ge=0, le=2**32)] = 1
    bidirectional: bool = False


class ExampleFields(Struct, frozen=True):
    """What a file holds beside the cells that it gives."""

    inputs: Rows  # T numbers, or T lists of X numbers
    source: str = ""
    h: Numbers = 0.0  # (H,), to begin with
    c: Numbers = 0.0
    drawn: Drawn | None = None  # in place of a cell
    readout: Readout | None = None
    target: Numbers | None = None  # as many numbers as the output
    learning_rate: Annotated[float, Meta(gt=0, le=LARGEST)] = 0.001  # torch's own for Adam


def _cell_struct(cell: str) -> type[Struct]:
    """The gates of a cell, and perhaps others to read backwards with; of each gate, h and x must be there."""
    gates: list[Any] = []
    for gate, shapes in gate_shapes(cell, 1, 1).items():
        weights: list[Any] = [(name, Numbers) if name in ("h", "x") else (name, Numbers, 0.0) for name in shapes]
        gates.append((gate, defstruct(gate, weights, frozen=True)))
    backwards = defstruct("backwards", gates, frozen=True)
    return defstruct(cell, [*gates, ("backwards", backwards | None, None)], frozen=True)


_CELL_FIELDS = [(cell.replace("-", "_"), _cell_struct(cell) | None, field(name=cell, default=None)) for cell in CELLS]
ExampleFile: Any = defstruct("ExampleFile", _CELL_FIELDS, bases=(ExampleFields,), frozen=True)


def load_example(path: Path, *, inputs: str | None = None, target: str | None = None) -> Example:
    """The example in a YAML file, with other inputs or another target ("1,5,7,4") if given. Raises SettingsError."""
    root = load_yaml(path, "the worked example")
    options = {"inputs": inputs, "target": target}
    if isinstance(root.value, dict):
        root.value.update({name: _option(name, numbers) for name, numbers in options.items() if numbers is not None})
    return _example(*read_document(ExampleFile, root))


def _option(name: str, numbers: str) -> Located:
    """The value of --inputs or --target; a sentence about it begins "--inputs is "."""
    return Located(name, read_yaml(f"[{numbers}]", lambda _: f"--{name}: ").value, "--")


def _example(file: ExampleFields, given: Mapping[str, Located]) -> Example:
    """The example that a file describes, its numbers in the shapes that H and X ask for."""
    inputs = _rows(given["inputs"])
    weights = _given_weights(given, inputs) if file.drawn is None else _drawn_weights(file, given, inputs)
    cells, of_first = [*weights], next(iter(weights.values()))
    units, ways = len(next(of_first[name] for name in of_first if name.endswith(".h"))), len(directions(of_first))
    if file.readout is not None:
        if file.drawn is None and file.readout.weight is None:
            raise given["readout"].error(f"has no weight, but must have weight: {expected(Numbers)}")
        for name, shape in (("readout.weight", (ways * units,)), ("readout.bias", ())):
            for of_cell in weights.values() if name in given or file.drawn is None else ():
                of_cell[name] = _array(given, name, shape)
    if "c" in given and not any("c" in CELLS[cell].state for cell in cells):
        raise given["c"].error(f"is given, but {' and '.join(cells)} keeps no cell state: leave it out")
    one_way = not any(f"{cell}.backwards" in given for cell in cells)
    if len(cells) > 1 and not (one_way and inputs.shape[1] == 1 and (units == 1 or file.readout is not None)):
        problem = "is a second cell, but cells are compared by one output, inputs of one number and one direction"
        raise given[cells[1]].error(f"{problem}: give one cell, or a readout and such inputs")
    return Example(
        source=" ".join("".join(c if c.isprintable() else " " for c in file.source).split()),
        inputs=inputs,
        state={letter: _array(given, letter, (units,)) for letter in ("h", "c")},
        cells=weights,
        readout=None if file.readout is None else file.readout.activation,
        target=None if file.target is None else _array(given, "target", (1 if file.readout else ways * units,)),
        learning_rate=file.learning_rate,
    )


def _given_weights(given: Mapping[str, Located], inputs: Array) -> dict[str, dict[str, Array]]:
    """The weights of each cell in a file."""
    cells = [path for path in given if path in CELLS]
    if not cells:
        raise given[""].error(f"has no cell, but must have one, under its name: {', '.join(CELLS)}; or drawn")
    weight_hh = given[next(path for path in given if path.startswith(f"{cells[0]}.") and path.endswith(".h"))].value
    units = len(weight_hh) or 1 if isinstance(weight_hh, list) else 1
    return {
        cell: {
            f"{direction}{gate}.{name}": _array(given, f"{cell}.{direction}{gate}.{name}", shape)
            for direction in ("", BACKWARDS)[: 1 + (f"{cell}.backwards" in given)]
            for gate, shapes in gate_shapes(cell, units, inputs.shape[1]).items()
            for name, shape in shapes.items()
        }
        for cell in cells
    }


def _drawn_weights(file: ExampleFields, given: Mapping[str, Located], inputs: Array) -> dict[str, dict[str, Array]]:
    """The weights of the cell that a file has drawn, and of its readout."""
    assert file.drawn is not None
    for cell in CELLS:
        if cell in given:
            raise given[cell].error("is given, and so is drawn, which draws the weights of a cell: leave one out")
    weights = draw_weights(
        file.drawn.cell,
        hidden_size=file.drawn.hidden_size,
        input_size=inputs.shape[1],
        seed=file.drawn.seed,
        bidirectional=file.drawn.bidirectional,
        readout=file.readout is not None,
    )
    return {file.drawn.cell: weights}


def _rows(inputs: Located) -> Array:
    """The inputs (T, X)."""
    with suppress(ValueError):  # lists of different lengths
        rows = np.array(inputs.value, dtype=np.float64)
        if rows.size:
            return rows.reshape(len(rows), -1)
    raise inputs.mismatch(_ROWS)


def _array(given: Mapping[str, Located], path: str, shape: tuple[int, ...]) -> Array:
    """The numbers of a field in this shape, 0 where the file has none; a side of length 1 needs no brackets."""
    if path not in given:
        return np.zeros(shape)
    sides = [side for side in shape if side != 1]
    with suppress(ValueError):  # lists of different lengths
        array = np.array(given[path].value, dtype=np.float64)
        if [side for side in array.shape if side != 1] == sides:
            return array.reshape(shape)
    words = ("a number", "a list of {} numbers", "{} lists of {} numbers each")[len(sides)].format(*sides)
    raise given[path].mismatch(words)
