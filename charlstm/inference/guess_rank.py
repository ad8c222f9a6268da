"""How many strings are likelier than a line: a Monte Carlo estimate (Dell'Amico & Filippone 2015, section 3).

Of n lines drawn from the model, each likelier one with probability p stands for 1 / (n·p) strings.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import RunError
from charlstm.inference.engine import Stepper
from charlstm.inference.sampling import SamplingParameters, generate, take_text
from charlstm.text import Vocab, end_id

DRAWN_LINES = 10_000
LONGEST_CHARS = 1000  # of a drawn line; a longer one stands for strings that are less likely than all others
DRAWN_LANES = 256


@dataclass(frozen=True)
class GuessRanks:
    """Ranks from n drawn lines, of which those that ended are known, the likeliest first."""

    nats: NDArray[np.float64]  # surprisals, ascending
    drawn: int  # n

    def estimate(self, nats: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The number of strings likelier than each line of so many nats, and its standard error."""
        likelier = np.searchsorted(self.nats, nats, side="left")
        log_sums, log_squares = (np.logaddexp.accumulate(times * self.nats) for times in (1.0, 2.0))
        ranks, errors = np.zeros(len(nats)), np.zeros(len(nats))
        some = likelier > 0
        log_ranks = log_sums[likelier[some] - 1] - math.log(self.drawn)
        of_square = log_squares[likelier[some] - 1] - math.log(self.drawn)
        with np.errstate(over="ignore"):
            ranks[some] = np.exp(log_ranks)
            errors[some] = ranks[some] * np.sqrt(np.expm1(np.maximum(0.0, of_square - 2 * log_ranks)) / self.drawn)
        return ranks, errors


def draw_lines(stepper: Stepper, vocab: Vocab) -> list[bytes]:
    """DRAWN_LINES lines as a model makes them whose lines end (`end_id` is not None), less those that never did.

    Raises RunError if that leaves none.
    """
    end = end_id(vocab)
    assert end is not None
    drawn = generate(
        stepper,
        vocab,
        SamplingParameters(),
        prompt=[],
        length=LONGEST_CHARS,
        seed=1,
        samples=DRAWN_LINES,
        stop_ids=[end],
        lanes=DRAWN_LANES,
        scored=False,
    )
    ended = (one for live in drawn for one in live if one.finished and one.chars < LONGEST_CHARS)
    lines = [take_text(one, vocab) for one in ended]
    if not lines:
        raise RunError(
            f"of {DRAWN_LINES:,} lines that the model drew none ended within {LONGEST_CHARS:,} characters, so that no "
            "rank can be estimated: train it further, or on text with line ends"
        )
    return lines
