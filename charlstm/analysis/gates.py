"""The gates of a model over a text, with the surprisal of every character and the likeliest ones to come next.

Letters: `T` characters, `L` layers, `H` hidden, `V` vocabulary, `K` guesses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import SettingsError
from charlstm.inference import Engine

Values: TypeAlias = NDArray[np.float32]

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "i": "input gate",
        "f": "forget gate",
        "o": "output gate",
        "r": "reset gate",
        "z": "update gate",
        "g": "candidate",
        "n": "candidate",
        "c": "cell state",
        "h": "hidden state",
    }
)
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "i": "how much of the candidate is written",
        "f": "how much of the old cell state is kept",
        "o": "how much of the cell state is shown",
        "r": "how much of the old state the candidate sees",
        "z": "how much of the old state is kept",
        "g": "what would be written into the cell",
        "n": "what would take the place of the old state",
        "c": "what the unit remembers",
        "h": "what the unit passes to the next layer and the next step",
    }
)
CANDIDATES = frozenset({"g", "n"})  # listed among the gates of a cell, but a tanh from −1 to 1
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

    ids: NDArray[np.integer[Any]]
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
        """The gates between 0 and 1: all but the candidate."""
        return tuple(name for name in self.gates if name not in CANDIDATES)

    @property
    def bits_per_char(self) -> float:
        """Mean surprisal."""
        return float(self.surprisal.mean(dtype=np.float64))


def read_gates(engine: Engine, ids: NDArray[np.integer[Any]], *, start_id: int, guesses: int = GUESSES) -> GateActivity:
    """Read ids (T,) once and keep every gate and state; before them the start symbol is read, as in training.

    Raises SettingsError for a text whose values would not fit into MOST_NUMBERS.
    """
    gates, state_names = engine.cell.gates, engine.cell.state
    names = (*gates, *(name for name in state_names if name not in gates))
    shape = (len(ids), engine.num_layers, engine.hidden_size)
    _refuse_too_long(len(ids), len(names) * engine.num_layers * engine.hidden_size, option="--length")
    values = {name: np.empty(shape, dtype=np.float32) for name in names}
    _, state = engine.step(np.array([start_id]), engine.zero_state(1))
    hidden = [state[0][-1]]
    for t in range(len(ids)):
        _, state, of_layers = engine.step_gates(ids[t : t + 1], state)
        for layer, of_layer in enumerate(of_layers):
            for name, value in zip(gates, of_layer, strict=True):
                values[name][t, layer] = value[0]
        for name, part in zip(state_names, state, strict=True):
            values[name][t] = part[:, 0]
    hidden.append(values["h"][:, -1])
    surprisal, guess_ids, guess_probs = _predictions(engine, ids, np.concatenate(hidden), guesses)
    return GateActivity(np.asarray(ids), gates, state_names, values, surprisal, guess_ids, guess_probs)


def read_memory(engine: Engine, ids: NDArray[np.integer[Any]], *, start_id: int) -> Values:
    """Return only `GateActivity.memory` of every unit, (T, L, H), for a longer text; raises as `read_gates` does."""
    shape = (len(ids), engine.num_layers, engine.hidden_size)
    _refuse_too_long(len(ids), engine.num_layers * engine.hidden_size, option="--study")
    memory = np.empty(shape, dtype=np.float32)
    _, state = engine.step(np.array([start_id]), engine.zero_state(1))
    for t in range(len(ids)):
        _, state, _ = engine.step_gates(ids[t : t + 1], state)
        memory[t] = state[-1][:, 0]
    return memory


def open_and_shut(values: Values) -> tuple[Values, Values]:
    """The fractions of the time that each unit's gate is open and is shut: values (T, L, H) to two arrays (L, H)."""
    return (values > OPEN).mean(axis=0, dtype=np.float32), (values < SHUT).mean(axis=0, dtype=np.float32)


def _refuse_too_long(length: int, numbers_each: int, *, option: str) -> None:
    most = MOST_NUMBERS // numbers_each
    if length > most:
        raise SettingsError(
            f"the values kept of {length:,} characters would exceed 1 GiB: give {option} {most} or less"
        )


def _predictions(
    engine: Engine, ids: NDArray[np.integer[Any]], hidden: Values, guesses: int
) -> tuple[NDArray[np.float32], NDArray[np.uint32], NDArray[np.float32]]:
    """Surprisal (T,), and ids and probabilities (T, K) of the guesses.

    hidden: the last layer's hidden state (T + 1, H) before the first character and after each.
    """
    length, count = len(hidden), min(guesses, len(engine.output_bias))
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
        surprisal[rows] = -log_probs[np.arange(len(came)), came] / np.log(2)
    return surprisal, guess_ids[1:], guess_probs[1:]
