"""Small models of documents, and what their probabilities are by enumeration."""

import math
from collections.abc import Iterator
from itertools import product

import numpy as np

from charlstm.inference import build_stepper
from charlstm.inference.engine import Stepper
from charlstm.inference.sampling import all_log_probs, read_ids
from charlstm.settings import ModelSettings
from charlstm.text import Vocab, end_id, start_id
from charlstm.weights import weight_shapes


def documents_vocab(symbols: str, *, unit: str = "char", unknown: bool = False) -> Vocab:
    known = () if unit == "byte" else tuple(sorted(set(symbols)))
    policy = "replace" if unknown else "error"
    return Vocab(unit, "keep", policy, unknown, known, has_boundary=True)  # type: ignore[arg-type]


def random_model(vocab: Vocab, seed: int, *, end_bias: float = 0.0) -> Stepper:
    """A model whose probabilities depend on all that was read."""
    settings = ModelSettings(hidden_size=5, num_layers=1, embedding_size=3)
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(0, 1.5, shape) for name, shape in weight_shapes(settings, vocab.size).items()}
    weights["output.bias"][end_id(vocab)] += end_bias
    return build_stepper(weights, settings)


def log_prob_of(model: Stepper, vocab: Vocab, ids: list[int], begin: int = 0) -> float:
    """The log-probability of a document's ids from the place `begin` on, and of its end symbol."""
    total = 0.0
    for place in range(begin, len(ids) + 1):
        logits, _ = read_ids(model, [start_id(vocab), *ids[:place]])
        total += all_log_probs(logits)[0, [*ids, end_id(vocab)][place]]
    return total


def every_document(vocab: Vocab, length: int) -> Iterator[list[int]]:
    """All documents of at most so many characters."""
    written = [one for one in range(vocab.size) if one not in (end_id(vocab), vocab.unknown_id, vocab.boundary_id)]
    for chars in range(length + 1):
        yield from map(list, product(written, repeat=chars))


def text_of(vocab: Vocab, ids: list[int]) -> str:
    return vocab.to_bytes(ids).decode("latin-1" if vocab.unit == "byte" else "utf-8")


def logsumexp(values: list[float]) -> float:
    return math.log(sum(map(math.exp, values)))
