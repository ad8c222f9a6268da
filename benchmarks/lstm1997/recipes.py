"""What each task is learned with: chosen for `lstm`, and taken for the other cells as it is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Sizes and rates of a trial."""

    hidden_size: int = 16
    batch_size: int = 4
    learning_rate: float = 0.01
    memory: int | None = None  # as in `models.TaskModel`, like the next
    direct: float | None = None
    end_weight: float = 1.0  # as in `models.TaskLoss`


_LAG = Recipe(batch_size=1, memory=1000)
_VERY_LONG = Recipe(batch_size=2, memory=1000)
_TWO = Recipe(batch_size=8, memory=100)
_MARKED = Recipe(batch_size=8, memory=100)

RECIPES: Mapping[str, Recipe] = {
    "reber": Recipe(batch_size=1),
    "2a p=100": replace(_LAG, learning_rate=0.001, direct=100.0),
    "2b p=100": replace(_LAG, hidden_size=32, learning_rate=0.005, end_weight=99.0),
    "2c q=50 p=50": replace(_VERY_LONG, memory=100),
    "2c q=100 p=100": replace(_VERY_LONG, memory=100),
    "2c q=200 p=200": replace(_VERY_LONG, memory=200),
    "2c q=500 p=500": replace(_VERY_LONG, memory=500),
    "2c q=1000 p=1000": _VERY_LONG,
    "2c q=1000 p=500": _VERY_LONG,
    "2c q=1000 p=200": _VERY_LONG,
    "2c q=1000 p=100": _VERY_LONG,
    "2c q=1000 p=50": _VERY_LONG,
    "3a T=100 N=3": _TWO,
    "3a T=100 N=1": _TWO,
    "3a T=1000 N=3": replace(_TWO, memory=1000),
    "3b T=100 N=3": _TWO,
    "3b T=100 N=1": _TWO,
    "3b T=1000 N=1": replace(_TWO, batch_size=64, memory=1000),
    "3c T=100 N=3": _TWO,
    "3c T=100 N=1": replace(_TWO, batch_size=32),
    "adding T=100": _MARKED,
    "adding T=500": replace(_MARKED, batch_size=16, hidden_size=32, memory=500),
    "adding T=1000": replace(_MARKED, batch_size=16, hidden_size=32, memory=1000),
    "multiplication, 140 wrong T=100": _MARKED,
    "multiplication, 13 wrong T=100": _MARKED,
    "6a": Recipe(batch_size=8, memory=100),
    "6b": Recipe(batch_size=8, memory=100),
}
