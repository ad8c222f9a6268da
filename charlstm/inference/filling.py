"""Gaps in a text, filled by a model that reads from both sides.

Letters: `N` characters of the text, `V` vocabulary, `H` hidden.

The model predicts one character from those around it. With several gaps some of these are unknown too, so the text is
read more than once: first each gap is filled from the known characters, skipping the gaps to its right, then again with
the guesses in place, until no guess changes (iterated conditional modes, Besag 1986).
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from charlstm.inference.engine import Engine
from charlstm.inference.sampling import SamplingParameters, pick
from charlstm.text.vocabulary import Vocab

Ids: TypeAlias = NDArray[np.integer]

SWEEPS = 8  # at most; guesses rarely change after the third


def fill_text(
    engines: tuple[Engine, Engine], vocab: Vocab, text: bytes, *, mask: bytes, temperature: float, seed: int
) -> bytes:
    """A text with every `mask` in it replaced by a character of the vocabulary; all other bytes stay as they are.

    engines: as `build_directions` gives them. temperature: 0 for the likeliest characters.
    Raises TextError for characters that the vocabulary refuses. The unknown symbol is never filled in.
    """
    vocab.unknown_characters(text.replace(mask, b"." * len(mask)), where="the text")  # says where UTF-8 is wrong
    pieces = text.split(mask)
    encoded = [vocab.encode_text(piece, where="the text") for piece in pieces]
    ids = np.concatenate([encoded[0], *(np.append([0], piece) for piece in encoded[1:])]).astype(np.intp)
    gaps = (np.cumsum([len(piece) + 1 for piece in encoded])[:-1] - 1).tolist()
    never = [symbol for symbol in (vocab.unknown_id, vocab.boundary_id) if symbol is not None]
    parameters = SamplingParameters(temperature=temperature, never=never or None)
    if vocab.boundary_id is not None:  # a text is one document, which begins after the boundary and ends with it
        ids, gaps = np.concatenate([[vocab.boundary_id], ids, [vocab.boundary_id]]), [gap + 1 for gap in gaps]
    filled = fill_gaps(engines, ids, gaps, parameters=parameters, seed=seed)
    fillings = [vocab.to_bytes(filled[[gap]]) for gap in gaps]
    return b"".join(part for pair in zip(pieces, [*fillings, b""], strict=True) for part in pair)


def fill_gaps(
    engines: tuple[Engine, Engine], ids: Ids, gaps: Sequence[int], *, parameters: SamplingParameters, seed: int
) -> Ids:
    """The ids (N,) with each gap, a position in them, filled; the ids found at the gaps are not read.

    At temperature 0 the guesses are repeated until none changes; drawn ones are drawn once, from left to right.
    """
    forwards, backwards = engines
    rng = np.random.default_rng(seed)
    filled = np.array(ids, dtype=np.intp)
    is_gap = np.zeros(len(filled), dtype=bool)
    is_gap[list(gaps)] = True
    filled[is_gap] = -1  # no id, so that the first guesses are changes
    known = ~is_gap
    for _ in range(SWEEPS if parameters.temperature == 0.0 else 1):
        before = filled.copy()
        from_right = _logits_from_right(backwards, filled, is_gap, known)
        logits, state = forwards.output_bias[None], forwards.zero_state(1)  # of text before the first: the bias alone
        for position in range(len(filled)):
            if is_gap[position]:
                (filled[position],) = pick(logits + from_right.pop(), np.array([rng.random()]), parameters)
                known[position] = True  # from now on
            logits, state = forwards.step(filled[position : position + 1], state)
        if np.array_equal(before, filled):
            break
    return filled


def _logits_from_right(
    backwards: Engine, ids: Ids, is_gap: NDArray[np.bool_], known: NDArray[np.bool_]
) -> list[NDArray[Any]]:
    """Logits (1, V) of each gap from the text after it, the leftmost gap last; unknown characters are skipped."""
    found = []
    logits, state = backwards.output_bias[None], backwards.zero_state(1)
    for position in range(len(ids) - 1, -1, -1):
        if is_gap[position]:
            found.append(logits)
        if known[position]:
            logits, state = backwards.step(ids[position : position + 1], state)
    return found
