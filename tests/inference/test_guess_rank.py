"""Estimated ranks: those counted by brute force, within their errors."""

import numpy as np
import pytest

from charlstm.errors import RunError
from charlstm.inference import GuessRanks, LineScorer, guess_rank
from charlstm.text import end_id

from .test_scoring import DOCUMENTS, SETTINGS, STREAM, scorer_of, weights_of


def likelier_than(scorer: LineScorer, limit: float) -> np.ndarray:
    """The nats of every line that costs less than the limit, ascending: all whose beginnings do."""
    heads, costs = [""], []
    while heads:
        found = scorer.score([head.encode() for head in heads])
        costs += found.nats[found.nats < limit].tolist()
        beginnings = [symbols[:-1].sum() for symbols in found.by_line() if symbols is not None]
        heads = [head + c for head, cost in zip(heads, beginnings, strict=True) if cost < limit for c in "abcé"]
    return np.sort(costs)


def test_ranks_are_those_counted_within_their_errors() -> None:
    for vocab in (STREAM, DOCUMENTS):
        scorer = scorer_of(vocab)
        nats = likelier_than(scorer, 7.0)
        assert len(nats) > 20
        counted = np.linspace(0, len(nats) - 1, 9).astype(int)
        ranks, errors = scorer.guess_ranks().estimate(nats[counted])
        assert ranks[0] == errors[0] == 0
        assert (np.abs(ranks - counted) <= 5 * errors + 0.5).all(), (ranks, errors, counted)
        assert (errors[1:] < ranks[1:] / 5).all()


def test_ranks_need_drawn_lines_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess_rank, "DRAWN_LINES", 8)
    monkeypatch.setattr(guess_rank, "LONGEST_CHARS", 20)
    weights = weights_of(STREAM, SETTINGS)
    weights["output.bias"][end_id(STREAM)] = -1e9
    with pytest.raises(RunError, match="none ended"):
        LineScorer(weights, SETTINGS, STREAM).guess_ranks()


def test_ranks_beyond_every_number_are_infinite_and_no_error() -> None:
    ranks, errors = GuessRanks(np.array([1.0, 2000.0]), 2).estimate(np.array([0.5, 1.5, 3000.0]))
    assert ranks[0] == 0
    assert ranks[1] == np.exp(1.0) / 2
    assert np.isinf(ranks[2])
    assert errors[1] > 0
