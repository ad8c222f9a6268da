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
import torch

from charlstm.evaluation import Tally
from charlstm.evaluation import evaluate as evaluate_model
from charlstm.machine import Machine
from charlstm.networks import OBJECTIVES, CharLM
from charlstm.settings import DataSettings, ModelSettings, TrainingSettings
from charlstm.text import Lanes, Splits, prepare_corpus, split_ids
from charlstm.training import Trainer

ALPHABET = "aé→😀\nz0 Ω"  # of 1, 2, 3 and 4 bytes


def write_text(path: Path, symbols: Sequence[int]) -> Path:
    path.write_bytes("".join(ALPHABET[symbol] for symbol in symbols).encode())
    return path


def splits_of(path: Path, cache_folder: Path) -> tuple[Splits, int]:
    """The parts of a text file (80 % train, the rest is held out), and the size of its vocabulary."""
    data = DataSettings(sources=(str(path),))
    corpus = prepare_corpus(data, cache_folder=cache_folder, data_folder=None, stdin=None)
    return split_ids(corpus.ids, (0.8, 0.0, 0.2)), corpus.vocab.size


def train(parts: Splits, vocab_size: int, *, steps: int, learning_rate: float, hidden_size: int = 24) -> CharLM:
    settings = ModelSettings(embedding_size=8, hidden_size=hidden_size, num_layers=1)
    training = TrainingSettings(
        batch_size=32,
        sequence_length=25,
        max_steps=steps,
        learning_rate=learning_rate,
        weight_decay=0.0,
        warmup_steps=9,
    )
    model = CharLM(vocab_size, settings, seed=3)
    trainer = Trainer(
        model,
        OBJECTIVES["next"],
        training,
        dropout=0.0,
        batches=Lanes(parts.train, training.batch_size, training.sequence_length),
        validation_ids=parts.val,
        machine=Machine(torch.device("cpu"), "fp32", shards=1, threads=1),
    )
    assert len(list(trainer.steps())) == steps
    return model


def evaluate(model: CharLM, ids: np.ndarray) -> Tally:
    return evaluate_model(model, OBJECTIVES["next"], ids).tally


def surprisal_bits(model: CharLM, ids: np.ndarray) -> np.ndarray:
    """Of each character but the first, in one stream."""
    text = torch.from_numpy(ids.astype(np.int64))
    with torch.no_grad():
        log_probabilities = model(text[:-1, None])[0][:, 0].log_softmax(-1)
    return -log_probabilities.gather(1, text[1:, None])[:, 0].numpy() / math.log(2)


def test_entropy_of_uniform_characters_is_log2_k(tmp_path: Path) -> None:
    k = 7
    symbols = np.random.default_rng(11).integers(k, size=100_000)
    parts, vocab_size = splits_of(write_text(tmp_path / "uniform.txt", symbols), tmp_path)
    assert vocab_size == k
    model = train(parts, vocab_size, steps=150, learning_rate=0.004)
    held_out = evaluate(model, parts.test)
    assert held_out.chars == 19_999
    surprisals = surprisal_bits(model, parts.test)
    sampling_error = float(surprisals.std()) / math.sqrt(held_out.chars)
    assert held_out.bits_per_char < 1.01 * math.log2(k)
    assert held_out.bits_per_char > math.log2(k) - 4 * sampling_error
    assert sampling_error < 0.002 * math.log2(k)  # or the line above would say little
    guess_error = math.sqrt((1 - 1 / k) / k / held_out.chars)
    assert abs(held_out.accuracy - 1 / k) < 4 * guess_error


def test_entropy_of_a_cycle_is_nothing(tmp_path: Path) -> None:
    """What follows a character depends on the two before it, so the model must remember to know."""
    cycle = [0, 1, 0, 2, 0, 1, 3, 4, 1, 5, 2]
    assert {(0, 1), (0, 2)} < set(pairwise(cycle))
    parts, vocab_size = splits_of(write_text(tmp_path / "cycle.txt", cycle * 4000), tmp_path)
    model = train(parts, vocab_size, steps=300, learning_rate=0.02)
    held_out = evaluate(model, parts.test)
    assert held_out.bits_per_char < 0.01
    assert held_out.accuracy > 0.999


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
    uniform = rng.random(300_000)
    symbols, cumulative = [0], transitions.cumsum(axis=1)
    for draw in uniform:
        symbols.append(min(int(np.searchsorted(cumulative[symbols[-1]], draw)), k - 1))
    parts, vocab_size = splits_of(write_text(tmp_path / "markov.txt", symbols), tmp_path)
    model = train(parts, vocab_size, steps=300, learning_rate=0.01)
    held_out = evaluate(model, parts.test)
    assert abs(held_out.bits_per_char - rate) < 0.02 * rate
    order = np.argsort([ord(ALPHABET[symbol]) for symbol in range(k)])  # ids are by code point
    known = transitions[order][:, order]
    best = float(np.mean([-math.log2(known[before, after]) for before, after in pairwise(parts.test)]))
    assert best - 0.001 * rate < held_out.bits_per_char < 1.01 * best  # the same characters, so chance is no excuse
