"""The training and validation curves of a run, from its metrics.jsonl."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from charlstm.errors import RunError

AXES: Mapping[str, str] = MappingProxyType(
    {"chars": "characters read", "step": "steps", "seconds": "seconds of training"}
)
_FIELDS = {"train": "bits_per_char", "val": "val_bits_per_char"}


@dataclass(frozen=True)
class Curve:
    """A run's name and its logged lines, in order."""

    name: str
    lines: tuple[dict[str, Any], ...]

    def series(self, which: Literal["train", "val"], *, by: str) -> tuple[list[float], list[float]]:
        """x and bits per character of the lines that have them; `by` is one of AXES."""
        field = _FIELDS[which]
        points = [(line[by], line[field]) for line in self.lines if _is_number(line.get(by), line.get(field))]
        return [x for x, _ in points], [y for _, y in points]


def read_curve(folder: Path) -> Curve:
    """The curve of a run folder; a last line that a kill cut short is left out. Raises RunError if there is none."""
    path = folder / "metrics.jsonl"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror}): name a run folder that `charlstm train` has logged to"
        ) from None
    lines = []
    for number, raw in enumerate(text.split(b"\n"), start=1):
        try:
            line = json.loads(raw) if raw.strip() else None
        except ValueError:
            if number > text.count(b"\n"):
                break  # being written, or cut short
            raise RunError(f"{path}:{number} is not JSON: the file is damaged; remove that line") from None
        if isinstance(line, dict):
            lines.append(line)
    if not any(_is_number(line.get("step"), line.get("bits_per_char")) for line in lines):
        raise RunError(f"{path} holds no logged step yet: train the run further")
    return Curve(folder.resolve().name, tuple(lines))


def _is_number(*values: Any) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)
