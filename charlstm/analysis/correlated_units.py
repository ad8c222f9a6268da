"""Units whose memory correlates with a feature of the text: chosen on its first half, judged on its second.

Letters: `T` characters, `L` layers, `H` hidden, `U` = L·H units, `F` features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Columns: TypeAlias = NDArray[np.float32]

SHIFTS = 19  # a feature that no unit correlates with exceeds the best of 19 shifted ones once in 20


@dataclass(frozen=True)
class CorrelatedUnit:
    """The unit whose memory correlates most with a feature on the first half of the text.

    r_found     the correlation there, the highest of all units and so biased upwards
    r_held_out  the same unit's on the second half, where nothing was chosen
    r_chance    the highest that the same search reached with the feature shifted against the text in SHIFTS ways, which
                keeps the feature's rhythm and removes its relation to the text
    """

    feature: str
    layer: int
    unit: int
    r_found: float
    r_held_out: float
    r_chance: float

    @property
    def agreement(self) -> float:
        """The held-out correlation, negative if its sign is not that of the one found."""
        return self.r_held_out * float(np.sign(self.r_found))

    @property
    def beyond_chance(self) -> bool:
        """Whether the held-out correlation is stronger than chance, with the sign of the one found."""
        return self.agreement > self.r_chance


def find_correlated_units(memory: Columns, features: Mapping[str, Columns]) -> list[CorrelatedUnit]:
    """Return for each feature the unit that correlates most with it, highest agreement first.

    memory: (T, L, H). features: (T,) each; one that does not vary in both halves is left out.
    """
    length, layers, hidden = memory.shape
    middle = length // 2
    names = [name for name, values in features.items() if _varies(values[:middle]) and _varies(values[middle:])]
    if not names:
        return []
    units = memory.reshape(length, layers * hidden)
    first, second = _standardised(units[:middle]), _standardised(units[middle:])  # (T/2, U) each
    stacked = np.stack([features[name] for name in names], axis=1)  # (T, F)
    unit, r_found, r_held_out = _search(first, second, stacked[:middle], stacked[middle:])
    shifted_r = []
    for number in range(1, SHIFTS + 1):
        halves = stacked[:middle], stacked[middle:]
        shifted = [np.roll(half, len(half) * number // (SHIFTS + 1), axis=0) for half in halves]
        shifted_r.append(np.abs(_search(first, second, *shifted)[2]))
    r_chance = np.max(shifted_r, axis=0)
    correlated = [
        CorrelatedUnit(name, *map(int, divmod(unit[k], hidden)), *map(float, (r_found[k], r_held_out[k], r_chance[k])))
        for k, name in enumerate(names)
    ]
    return sorted(correlated, key=lambda found: -found.agreement)


def _search(
    first: Columns, second: Columns, features_of_first: Columns, features_of_second: Columns
) -> tuple[NDArray[np.intp], Columns, Columns]:
    """For each feature (F,): the unit chosen on the first half, its correlation there, and on the second half."""
    correlations = _standardised(features_of_first).T @ first / len(first)  # (F, U)
    unit = np.abs(correlations).argmax(axis=1)
    r_found = correlations[np.arange(len(unit)), unit]
    r_held_out = (_standardised(features_of_second) * second[:, unit]).mean(axis=0)
    return unit, r_found, r_held_out


def _standardised(columns: Columns) -> Columns:
    """Each column with mean 0 and standard deviation 1; a constant one becomes zeros."""
    centred: Columns = columns - columns.mean(axis=0)
    deviation = centred.std(axis=0)
    centred /= np.where(deviation > 1e-6, deviation, np.inf)
    return centred


def _varies(values: Columns) -> bool:
    return len(values) > 1 and float(values.std()) > 0.0
