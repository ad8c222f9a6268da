"""Entropy: from a text file to a figure, on sources of which the entropy is known.

A model predicts text that it has not seen with the cross-entropy H(p, q) = H(p) + KL(p ‖ q), never below the source's
entropy H(p). What is measured on n characters is a mean of n surprisals, so it may fall below H(p) by chance, by a few
times the surprisals' standard deviation over √n. For a model close to the source the excess is half the variance of
ln(q/p), so the better the model, the narrower that chance.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

import charlstm
from charlstm.evaluation import Tally
from charlstm.settings import DataSettings, ModelSettings, Settings, TrainingSettings
from charlstm.text import Ids

ALPHABET = "aé→😀\nz0 Ω"  # of 1, 2, 3 and 4 bytes


def write_text(path: Path, symbols: Sequence[int]) -> Path:
    path.write_bytes("".join(ALPHABET[symbol] for symbol in symbols).encode())
    return path


def held_out(path: Path, *, steps: int, learning_rate: float) -> tuple[Tally, Ids]:
    """What a model that was trained on four fifths of a text makes of the rest, and that rest."""
    training = {"batch_size": 32, "sequence_length": 25, "max_steps": steps, "warmup_steps": 9, "weight_decay": 0.0}
    training |= {"learning_rate": learning_rate, "shards": 1, "precision": "fp32", "device": "cpu"}
    settings = Settings(
        data=DataSettings(sources=(str(path),), split=(0.8, 0.0, 0.2)),
        model=ModelSettings(embedding_size=8, hidden_size=24, num_layers=1, dropout=0.0),
        training=TrainingSettings(**training),  # type: ignore[arg-type]
    )
    with charlstm.start_session(settings, folder=path.parent / "run") as session:
        run = session.train().run
    ids = charlstm.read_split(run, "test")
    return charlstm.evaluate(run, ids).tally, ids


def test_entropy_of_a_cycle_is_nothing(tmp_path: Path) -> None:
    """What follows a character depends on the two before it, so the model must remember to know."""
    cycle = [0, 1, 0, 2, 0, 1, 3, 4, 1, 5, 2]
    assert {(0, 1), (0, 2)} < set(pairwise(cycle))
    found, _ = held_out(write_text(tmp_path / "cycle.txt", cycle * 1000), steps=200, learning_rate=0.02)
    assert found.bits_per_char < 0.01
    assert found.accuracy > 0.999


def test_entropy_of_a_markov_source_is_its_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    k = 5
    transitions = rng.dirichlet(np.full(k, 0.5), size=k)  # (from, to)
    values, vectors = np.linalg.eig(transitions.T)
    stationary = vectors[:, values.real.argmax()].real
    stationary /= stationary.sum()
    rate = float(-(stationary[:, None] * transitions * np.log2(transitions)).sum())
    alone = float(-(stationary * np.log2(stationary)).sum())
    assert rate < 0.8 * alone  # there is something to learn from the character before
    uniform = rng.random(100_000)
    symbols, cumulative = [0], transitions.cumsum(axis=1)
    for draw in uniform:
        symbols.append(min(int(np.searchsorted(cumulative[symbols[-1]], draw)), k - 1))
    found, ids = held_out(write_text(tmp_path / "markov.txt", symbols), steps=200, learning_rate=0.01)
    assert abs(found.bits_per_char - rate) < 0.02 * rate
    order = np.argsort([ord(ALPHABET[symbol]) for symbol in range(k)])  # ids are by code point
    known = transitions[order][:, order]
    best = float(np.mean([-math.log2(known[before, after]) for before, after in pairwise(ids)]))
    assert best - 0.001 * rate < found.bits_per_char < 1.01 * best  # the same characters, so chance is no excuse
