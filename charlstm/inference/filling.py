"""Gaps in a text, filled by a model that reads from both sides.

Letters: `N` characters of the text, `V` vocabulary, `H` hidden.

The model predicts one character from those around it. With several gaps some of what is around is unknown too, so the
text is gone through more than once: first each gap is filled with what lies to its right left out of account where it
is unknown, then again with the guesses in place, until no guess changes (iterated conditional modes, Besag 1986).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from charlstm.cells import State
from charlstm.inference.engine import Engine
from charlstm.inference.sampling import Choice, pick

SWEEPS = 8  # at most; guesses rarely change after the third


def fill_gaps(
    forwards: Engine,
    backwards: Engine,
    ids: NDArray[np.integer],
    gaps: Sequence[int],
    *,
    choice: Choice,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """The ids (N,) with each gap, a position in them, filled; what stands at a gap before is not looked at.

    With temperature 0 the guesses are made better until they agree; drawn ones are drawn once, from left to right.
    """
    filled = np.array(ids, dtype=np.intp)
    known = np.ones(len(filled), dtype=bool)
    known[list(gaps)] = False
    is_gap = ~known
    for _ in range(SWEEPS if choice.temperature == 0.0 else 1):
        before = filled.copy()
        _sweep(forwards, backwards, filled, is_gap, known, choice, rng)
        if np.array_equal(before, filled):
            break
    return filled


def _sweep(
    forwards: Engine,
    backwards: Engine,
    ids: NDArray[np.intp],
    is_gap: NDArray[np.bool_],
    known: NDArray[np.bool_],
    choice: Choice,
    rng: np.random.Generator,
) -> None:
    """Fill every gap once from left to right, in place, and count it as known from then on."""
    from_right = _logits_from_right(backwards, ids, is_gap, known)
    logits, state = _share_of_nothing(forwards), forwards.zero_state(1)
    for position in range(len(ids)):
        if is_gap[position]:
            (ids[position],) = pick(logits + from_right.pop(), np.array([rng.random()]), choice)
            known[position] = True
        logits, state = forwards.step(ids[position : position + 1], state)


def _logits_from_right(
    backwards: Engine, ids: NDArray[np.intp], is_gap: NDArray[np.bool_], known: NDArray[np.bool_]
) -> list[NDArray[np.floating]]:
    """What the text after each gap says of it, (1, V) each, the leftmost gap last; unknown characters are skipped."""
    found = []
    logits = _share_of_nothing(backwards)
    state: State = backwards.zero_state(1)
    for position in range(len(ids) - 1, -1, -1):
        if is_gap[position]:
            found.append(logits)
        if known[position]:
            logits, state = backwards.step(ids[position : position + 1], state)
    return found


def _share_of_nothing(engine: Engine) -> NDArray[np.floating]:
    """The logits (1, V) of a direction that has read nothing: its hidden state is zero, so its bias alone."""
    share: NDArray[np.floating] = engine.output_bias[None]
    return share
