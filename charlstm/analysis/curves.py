"""The training and validation curves of a run, from its metrics."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from charlstm.errors import RunError

AXES: Mapping[str, str] = MappingProxyType(
    {"chars": "characters read", "step": "steps", "seconds": "seconds of training"}
)
_FIELDS = {"train": "bits_per_char", "val": "val_bits_per_char"}


@dataclass(frozen=True)
class Curve:
    """The logged steps of a run, in order, as points to draw; a figure that was not logged is None."""

    name: str
    rows: "tuple[_Row, ...]"

    def series(self, which: Literal["train", "val"], *, by: str) -> tuple[list[float], list[float]]:
        """x and bits per character of the steps that logged both as finite numbers; `by` is one of AXES."""
        points = [(getattr(row, by), getattr(row, _FIELDS[which])) for row in self.rows]
        finite = [
            (x, y) for x, y in points if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)
        ]
        return [x for x, _ in finite], [y for _, y in finite]


def read_curve(folder: Path) -> Curve:
    """Read the curve of a run folder. Raises RunError if no step was logged there, or its metrics are damaged."""
    curve = Curve(folder.resolve().name, tuple(_read_rows(folder)))
    if not curve.series("train", by="step")[0]:
        raise RunError(f"{folder / 'metrics.jsonl'} holds no logged step yet: train the run further")
    return curve


@dataclass(frozen=True)
class _Row:
    step: float | None
    chars: float | None
    seconds: float | None
    bits_per_char: float | None
    val_bits_per_char: float | None


def _read_rows(folder: Path) -> list[_Row]:
    """The rows of metrics.jsonl without a last line that a kill cut short."""
    path = folder / "metrics.jsonl"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror}): name a run folder that `charlstm train` has logged to"
        ) from None
    rows = []
    for number, raw in enumerate(data.split(b"\n"), start=1):
        try:
            line = json.loads(raw) if raw.strip() else None
        except ValueError:
            if number > data.count(b"\n"):
                break  # being written, or cut short
            raise RunError(f"{path}:{number} is not JSON: the file is damaged; remove that line") from None
        if isinstance(line, dict):
            values = [line.get(field.name) for field in fields(_Row)]
            rows.append(_Row(*(value if isinstance(value, int | float) else None for value in values)))
    return rows
