"""Gaps in a text, filled by a model that reads from both sides.

Letters: `N` characters of the text, `V` vocabulary, `H` hidden.

The model predicts one character from those around it. With several gaps some of these are unknown too, so the text is
read more than once: first each gap is filled from the known characters, skipping the gaps to its right, then again with
the guesses in place, until no guess changes (iterated conditional modes, Besag 1986).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from charlstm.cells import State
from charlstm.inference.engine import Engine
from charlstm.inference.sampling import SamplingParameters, pick
from charlstm.text.vocabulary import Vocab

SWEEPS = 8  # at most; guesses rarely change after the third


def fill_text(
    forwards: Engine,
    backwards: Engine,
    vocab: Vocab,
    text: bytes,
    *,
    mask: bytes,
    parameters: SamplingParameters,
    rng: "np.random.Generator",  # a string: NumPy loads its random part when it is first named, 6 ms
) -> bytes:
    """A text with every `mask` in it replaced by a character of the vocabulary; all other bytes stay as they are.

    Raises TextError for characters that the vocabulary refuses. The unknown symbol is never filled in.
    """
    pieces = text.split(mask)
    encoded = [vocab.encode_text(piece, where="the text") for piece in pieces]
    ids = np.concatenate([encoded[0], *(np.append([0], piece) for piece in encoded[1:])]).astype(np.intp)
    gaps = (np.cumsum([len(piece) + 1 for piece in encoded])[:-1] - 1).tolist()
    parameters = replace(parameters, never=vocab.unknown_id)
    filled = fill_gaps(forwards, backwards, ids, gaps, parameters=parameters, rng=rng)
    fillings = [vocab.to_bytes(filled[[gap]]) for gap in gaps]
    return b"".join(part for pair in zip(pieces, [*fillings, b""], strict=True) for part in pair)


def fill_gaps(
    forwards: Engine,
    backwards: Engine,
    ids: NDArray[np.integer],
    gaps: Sequence[int],
    *,
    parameters: SamplingParameters,
    rng: "np.random.Generator",
) -> NDArray[np.intp]:
    """The ids (N,) with each gap, a position in them, filled; the ids found at the gaps are not read.

    At temperature 0 the guesses are repeated until none changes; drawn ones are drawn once, from left to right.
    """
    filled = np.array(ids, dtype=np.intp)
    known = np.ones(len(filled), dtype=bool)
    known[list(gaps)] = False
    is_gap = ~known
    for _ in range(SWEEPS if parameters.temperature == 0.0 else 1):
        before = filled.copy()
        _sweep(forwards, backwards, filled, is_gap, known, parameters, rng)
        if np.array_equal(before, filled):
            break
    return filled


def _sweep(
    forwards: Engine,
    backwards: Engine,
    ids: NDArray[np.intp],
    is_gap: NDArray[np.bool_],
    known: NDArray[np.bool_],
    parameters: SamplingParameters,
    rng: "np.random.Generator",
) -> None:
    """Fill every gap once from left to right, in place, and count it as known from then on."""
    from_right = _logits_from_right(backwards, ids, is_gap, known)
    logits, state = _logits_before_text(forwards), forwards.zero_state(1)
    for position in range(len(ids)):
        if is_gap[position]:
            (ids[position],) = pick(logits + from_right.pop(), np.array([rng.random()]), parameters)
            known[position] = True
        logits, state = forwards.step(ids[position : position + 1], state)


def _logits_from_right(
    backwards: Engine, ids: NDArray[np.intp], is_gap: NDArray[np.bool_], known: NDArray[np.bool_]
) -> list[NDArray[np.floating]]:
    """Logits (1, V) of each gap from the text after it, the leftmost gap last; unknown characters are skipped."""
    found = []
    logits = _logits_before_text(backwards)
    state: State = backwards.zero_state(1)
    for position in range(len(ids) - 1, -1, -1):
        if is_gap[position]:
            found.append(logits)
        if known[position]:
            logits, state = backwards.step(ids[position : position + 1], state)
    return found


def _logits_before_text(engine: Engine) -> NDArray[np.floating]:
    """The logits (1, V) of a direction that has read nothing: its hidden state is zero, so its bias alone."""
    logits: NDArray[np.floating] = engine.output_bias[None]
    return logits
