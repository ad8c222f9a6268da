"""Estimated ranks: those counted by brute force, within their errors."""

import itertools

import numpy as np

from charlstm.inference import GuessRanks

from .test_scoring import DOCUMENTS, STREAM, scorer_of


def test_ranks_are_those_counted_within_their_errors() -> None:
    for vocab in (STREAM, DOCUMENTS):
        scorer = scorer_of(vocab)
        lines = ["".join(line).encode() for n in range(8) for line in itertools.product("abcé", repeat=n)]
        nats = np.sort(scorer.score(lines).nats)
        asked = nats[[0, 3, 20, 100, 400]]
        ranks, errors = scorer.guess_ranks().estimate(asked)
        counted = np.searchsorted(nats, asked, side="left")
        assert ranks[0] == errors[0] == 0
        assert (np.abs(ranks - counted) <= 5 * errors + 0.5).all(), (ranks, errors, counted)
        assert (errors[2:] < ranks[2:] / 5).all()


def test_ranks_beyond_every_number_are_infinite_and_no_error() -> None:
    ranks, errors = GuessRanks(np.array([1.0, 2000.0]), 2).estimate(np.array([0.5, 1.5, 3000.0]))
    assert ranks[0] == 0
    assert ranks[1] == np.exp(1.0) / 2
    assert np.isinf(ranks[2])
    assert errors[1] > 0
