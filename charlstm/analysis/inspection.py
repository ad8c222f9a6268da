"""A text read through a run's model: the gates over its beginning, and the units that correlate with its features.

Letters: `T` characters, `L` layers, `H` hidden.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.correlated_units import CorrelatedUnit, find_correlated_units
from charlstm.analysis.gates import GateActivity, read_gates, read_memory
from charlstm.analysis.symbols import text_of, visible_symbols
from charlstm.analysis.text_features import TextFeatures, text_features
from charlstm.cells import LETTERS
from charlstm.inference import Engine
from charlstm.runs import Run
from charlstm.text import start_id
from charlstm.weights import Weights

# Of units found on 250 characters or more all but 1 of 104 followed their feature elsewhere as well (r > 0.3 on 30,000
# others); of those found on 60, 7 of 33 did not.
LEAST_STUDIED_CHARS = 250


@dataclass(frozen=True)
class Inspection:
    """The result of `inspect_text`.

    activity          the gates over the first T characters
    features          of these characters, (T,) each
    correlated_units  found over all `studied_chars` characters, highest agreement first; none of too few
    """

    run: Run
    activity: GateActivity
    features: TextFeatures
    correlated_units: tuple[CorrelatedUnit, ...]
    studied_chars: int

    @property
    def text(self) -> str:
        """The first T characters; a byte is the character of the same code."""
        return text_of(self.run.vocab, self.activity.ids)

    @property
    def symbols(self) -> list[str]:
        """The visible form of each of the first T characters."""
        symbols = visible_symbols(self.run.vocab)
        return [symbols[symbol_id] for symbol_id in self.activity.ids]


def inspect_text(run: Run, weights: Weights, ids: NDArray[np.integer[Any]], *, length: int) -> Inspection:
    """Read ids through the model of a run trained for the next character, and keep the gates of the first `length`.

    Raises SettingsError for a text too long to keep.
    """
    engine = Engine(weights, run.settings.model)
    start, documents = start_id(run.vocab), run.vocab.has_boundary
    activity = read_gates(engine, ids[:length], start_id=start, of_documents=documents)
    memory = activity.values[activity.memory]
    if len(ids) > length:
        memory = read_memory(engine, ids, start_id=start, of_documents=documents)
    features = text_features(text_of(run.vocab, ids))
    correlated_units = find_correlated_units(memory, features) if len(ids) >= LEAST_STUDIED_CHARS else []
    shown = {name: values[:length] for name, values in features.items()}
    return Inspection(run, activity, shown, tuple(correlated_units), len(ids))


def choose_unit(inspection: Inspection, layer: int | None, unit: int | None) -> tuple[int, int]:
    """Fill in a layer and a unit left open: the best unit that correlates with a feature, else the last layer's first.

    Only a unit of the layer given is chosen. Correlations that chance reaches do not count.
    """
    if unit is None:
        for found in inspection.correlated_units:
            if layer in {None, found.layer} and found.beyond_chance:
                return found.layer, found.unit
    return inspection.activity.shape[1] - 1 if layer is None else layer, unit or 0


def describe_unit(inspection: Inspection, *, layer: int, unit: int) -> str:
    """One line about a unit: which part of its state is its memory, and the feature that it correlates with, if any."""
    memory = inspection.activity.memory
    about = f"layer {layer}, unit {unit}: {LETTERS[memory].label}"
    for found in inspection.correlated_units:
        if (found.layer, found.unit) == (layer, unit) and found.beyond_chance:
            return (
                f"{about}, correlated with “{found.feature}”: r = {found.r_held_out:+.2f} on held-out text "
                f"({found.r_found:+.2f} where it was found, {found.r_chance:.2f} by chance)"
            )
    return about


def inspection_arrays(inspection: Inspection) -> dict[str, NDArray[Any]]:
    """Every array of an inspection by name, as `numpy.savez` takes them: those of `GateActivity`, and the text."""
    activity = inspection.activity
    return {
        "ids": activity.ids,
        "text": np.array(inspection.text),
        "surprisal": activity.surprisal,
        "guess_ids": activity.guess_ids,
        "guess_probs": activity.guess_probs,
        **activity.values,
    }
