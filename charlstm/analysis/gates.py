"""The gates of a model over a text, with the surprisal of every character and the likeliest ones to come next.

Letters: `T` characters, `L` layers, `H` hidden, `O` what the output layer reads, `V` vocabulary, `K` guesses.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from charlstm.cells import LETTERS, State
from charlstm.errors import SettingsError
from charlstm.inference import Engine

Ids: TypeAlias = NDArray[np.integer[Any]]
Values: TypeAlias = NDArray[np.float32]

OPEN, SHUT = 0.9, 0.1  # a gate above or below these is open or shut: Karpathy, Johnson & Li 2015, section 4.2
GUESSES = 5  # kept for each character
MOST_NUMBERS = 2**28  # of float32, kept at once: 1 GiB
_ROWS = 256  # of logits at a time


@dataclass(frozen=True)
class GateActivity:
    """Every gate and state of a model while it read a text.

    ids         (T,)
    values      by name (`gates`, then `state`), (T, L, H): after reading the character at t
    surprisal   (T,) bits, −log2 of the probability given to the character at t before it was read
    guess_ids   (T, K) the likeliest characters to come after the one at t, likeliest first
    guess_probs (T, K) their probabilities
    """

    ids: Ids
    gates: tuple[str, ...]
    state: tuple[str, ...]
    values: Mapping[str, Values]
    surprisal: NDArray[np.float32]
    guess_ids: NDArray[np.uint32]
    guess_probs: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, L, H)."""
        length, layers, hidden = self.values[self.state[0]].shape
        return length, layers, hidden

    @property
    def memory(self) -> str:
        """The part of the state that carries the longest: the cell state, or the hidden one of a cell without."""
        return self.state[-1]

    @property
    def sigmoid_gates(self) -> tuple[str, ...]:
        """The gates between 0 and 1: all but the candidate, a tanh from −1 to 1."""
        return tuple(name for name in self.gates if LETTERS[name].verb)

    @property
    def bits_per_char(self) -> float:
        """Mean surprisal."""
        return float(self.surprisal.mean(dtype=np.float64))

    def full_scale(self, name: str) -> Values:
        """What stands for full scale, (L, H): 1 for a gate and the candidate, else each unit's largest magnitude."""
        values = self.values[name]
        if name in self.gates:
            return np.ones(values.shape[1:], dtype=np.float32)
        largest: Values = np.abs(values).max(axis=0).clip(min=1e-6)
        return largest

    def of_unit(self, layer: int, unit: int) -> dict[str, Values]:
        """The values (T,) of one unit as fractions of full scale, its memory first."""
        names = [self.memory, *(name for name in self.values if name != self.memory)]
        return {name: self.values[name][:, layer, unit] / self.full_scale(name)[layer, unit] for name in names}


def read_gates(engine: Engine, ids: Ids, *, start_id: int, of_documents: bool = False) -> GateActivity:
    """Read ids (T,) once, after the start symbol, and keep every gate and state.

    of_documents: whether the start symbol ends each document too, and the next begins from the zero state.
    Raises SettingsError for a text whose values would not fit into MOST_NUMBERS.
    """
    gates, state = engine.cell.gates, engine.cell.state
    values, begin = _read_values(engine, ids, (*gates, *state), start_id, of_documents, option="--length")
    hidden = engine.read_layers(np.concatenate([begin[0][None, :, 0], values["h"]]))
    return GateActivity(np.asarray(ids), gates, state, values, *_predictions(engine, ids, hidden))


def read_memory(engine: Engine, ids: Ids, *, start_id: int, of_documents: bool = False) -> Values:
    """Return only `GateActivity.memory` of every unit, (T, L, H), for a longer text; raises as `read_gates` does."""
    memory = engine.cell.state[-1]
    return _read_values(engine, ids, (memory,), start_id, of_documents, option="--study")[0][memory]


def _read_values(
    engine: Engine, ids: Ids, names: Sequence[str], start_id: int, of_documents: bool, *, option: str
) -> tuple[dict[str, Values], State]:
    """Some of the gates and the state by name, (T, L, H) each, and the state before them; the option is what sets T."""
    shape = (engine.num_layers, engine.hidden_size)
    most = MOST_NUMBERS // (len(names) * math.prod(shape))
    if len(ids) > most:
        raise SettingsError(
            f"the values kept of {len(ids):,} characters would exceed 1 GiB: give {option} {most} or less"
        )
    values = {name: np.empty((len(ids), *shape), dtype=np.float32) for name in names}
    _, begin = engine.step(np.array([start_id]), engine.zero_state(1))
    state = begin
    for t in range(len(ids)):
        if of_documents and ids[t] == start_id:
            state = engine.zero_state(1)
        _, state, of_layers = engine.step_gates(ids[t : t + 1], state)
        for name, part in zip(engine.cell.state, state, strict=True):
            if name in values:
                values[name][t] = part[:, 0]
        for layer, of_layer in enumerate(of_layers):
            for name, value in zip(engine.cell.gates, of_layer, strict=True):
                if name in values:
                    values[name][t, layer] = value[0]
    return values, begin


def open_and_shut(values: Values) -> tuple[Values, Values]:
    """The fractions of the time that each unit's gate is open and is shut: values (T, L, H) to two arrays (L, H)."""
    return (values > OPEN).mean(axis=0, dtype=np.float32), (values < SHUT).mean(axis=0, dtype=np.float32)


def _predictions(
    engine: Engine, ids: Ids, hidden: Values
) -> tuple[NDArray[np.float32], NDArray[np.uint32], NDArray[np.float32]]:
    """Surprisal (T,), and ids and probabilities (T, K) of the guesses.

    hidden: what the output layer reads (T + 1, O) before the first character and after each.
    """
    length, count = len(hidden), min(GUESSES, len(engine.output_bias))
    surprisal = np.empty(len(ids), dtype=np.float32)
    guess_ids = np.empty((length, count), dtype=np.uint32)
    guess_probs = np.empty((length, count), dtype=np.float32)
    for start in range(0, length, _ROWS):
        rows = slice(start, min(start + _ROWS, length))
        logits = (hidden[rows] @ engine.output_weight.T + engine.output_bias).astype(np.float64)  # (rows, V)
        logits -= logits.max(axis=1, keepdims=True)
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        best = np.argsort(-log_probs, axis=1, kind="stable")[:, :count]
        guess_ids[rows] = best
        guess_probs[rows] = np.exp(np.take_along_axis(log_probs, best, axis=1))
        came = ids[rows].astype(np.intp)  # one row fewer at the very end
        surprisal[rows] = -log_probs[np.arange(len(came)), came] / np.log(2) + 0.0  # -0 is 0
    return surprisal, guess_ids[1:], guess_probs[1:]
