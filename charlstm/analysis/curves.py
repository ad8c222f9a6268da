"""The training and validation curves of a run, from its metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from charlstm.errors import RunError
from charlstm.runs import MetricsRow, read_bits_name, read_metrics

AXES: Mapping[str, str] = {"chars": "characters read", "step": "steps", "seconds": "seconds of training"}
MOST_BITS = 1e6  # a run that comes near has diverged long before
_FIELDS = {"train": "bits_per_char", "val": "val_bits_per_char"}


@dataclass(frozen=True)
class Curve:
    """The logged steps of a run, in order, as points to draw; a figure that was not logged is None."""

    name: str
    rows: tuple[MetricsRow, ...]
    figure: str = "bits per character"  # what is drawn; others do not compare with it

    def series(self, which: Literal["train", "val"], *, by: str) -> tuple[list[float], list[float]]:
        """x and bits of the steps that logged them; `by` is one of AXES."""
        points = [(getattr(row, by), getattr(row, _FIELDS[which])) for row in self.rows]
        logged = [(x, y) for x, y in points if y is not None]
        return [x for x, _ in logged], [y for _, y in logged]


def read_curve(folder: Path) -> Curve:
    """Read the curve of a run folder. Raises RunError if no step was logged there, or its metrics are damaged."""
    curve = Curve(folder.resolve().name, tuple(read_metrics(folder)), _words(read_bits_name(folder)))
    if not curve.series("train", by="step")[0]:
        raise RunError(f"{folder / 'metrics.jsonl'} holds no logged step yet: train the run further")
    if any(not 0 <= bits <= MOST_BITS for which in ("train", "val") for bits in curve.series(which, by="step")[1]):
        raise RunError(f"{folder / 'metrics.jsonl'} holds bits that no model has: remove those lines")
    return curve


def name_curves(curves: Sequence[Curve]) -> tuple[str, list[str]]:
    """What the curves show, and the name of each, which says what it shows where that differs."""
    figures = {curve.figure for curve in curves}
    if len(figures) == 1:
        return figures.pop(), [curve.name for curve in curves]
    return "bits, which do not compare", [f"{curve.name} ({curve.figure})" for curve in curves]


def _words(name: str) -> str:
    """ "cloze bits per character" for "cloze_bits_per_char"."""
    return name.replace("_", " ").replace("char", "character")
