"""The threshold of `charlstm score --worst`: what all but a share of usual lines, empty ones left out, stay below."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from charlstm.cli.scored_lines import Scale, ScoredLine, is_empty_line
from charlstm.cli.terminal import print_diagnostic
from charlstm.errors import TextError

if TYPE_CHECKING:
    from charlstm.inference import LineScorer
    from charlstm.runs import Calibration, Run

MOST_LINES = 20_000  # of the validation text, spread over it
SCORED_LINES = 2048  # at once


def calibrate_on_validation(run: "Run", scorer: "LineScorer", checkpoint: str, *, trust_sources: bool) -> "Calibration":
    """What the lines of the run's validation text cost; as it is stored with the run, if it is."""
    from charlstm.runs import Calibration, read_calibration, read_lines

    if (stored := read_calibration(run, checkpoint)) is not None:
        return stored
    read = read_lines(run, "val", MOST_LINES, trust_sources=trust_sources)
    lines = [line for line in read if not is_empty_line(line)]
    if not lines:
        raise TextError("--worst: all lines of the validation text are empty; give others with --calibrate")
    nats: list[float] = []
    chars: list[int] = []
    for first in range(0, len(lines), SCORED_LINES):
        found = scorer.score(lines[first : first + SCORED_LINES])
        nats += found.nats.tolist()
        chars += found.chars.tolist()
    return Calibration(checkpoint, "the validation text", nats, chars)


def calibrate_on_lines(checkpoint: str, source: str, lines: Iterable[list[ScoredLine]]) -> "Calibration":
    """What lines of a file cost."""
    from charlstm.runs import Calibration

    found = [(line.nats, line.chars) for window in lines for line in window if not is_empty_line(line.record.text)]
    if not found:
        raise TextError(f"--calibrate: there are no lines in {source}")
    nats, chars = zip(*found, strict=True)
    return Calibration(checkpoint, source, list(nats), list(chars))


def find_threshold(scale: Scale, calibration: "Calibration", share: float) -> float:
    """The score that a new line of the same kind exceeds with a probability of at most `share`; print it.

    That is the ⌈(n + 1)(1 − share)⌉-th smallest of n scores; with too few for the share the highest, which is said.
    """
    import numpy as np

    count = len(calibration.nats)
    place = math.ceil((count + 1) * (1 - share) - 1e-9)
    scores = scale.of(np.array(calibration.nats), np.array(calibration.chars))
    threshold = float(np.sort(scores)[min(place, count) - 1])
    print_diagnostic(
        f"threshold {threshold:.4f} {scale.name}, which {share:.3g} of lines like the {count:,} of "
        f"{calibration.source} exceed"
    )
    if place > count:
        print_diagnostic(
            f"{count:,} lines tell no share below {1 / (count + 1):.2g}: the threshold is the highest of them; "
            "give more with --calibrate"
        )
    return threshold
