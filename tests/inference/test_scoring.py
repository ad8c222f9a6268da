"""Scores of lines: those of a naive reading, probabilities that add up, the same bits in any company."""

import itertools
import math
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.cells import CELLS
from charlstm.inference import Engine, LineScorer, encode_lines
from charlstm.inference import log_probs as log_probs_of
from charlstm.inference.scoring import LANES, PIECE_STEPS, UNKNOWN_NATS
from charlstm.settings import ModelSettings
from charlstm.text import LongLine, Vocab, end_id, start_id
from charlstm.weights import Weights, weight_shapes

SETTINGS = ModelSettings(embedding_size=5, hidden_size=12, num_layers=2)
LINES = st.lists(st.text("abcXé", max_size=9).map(str.encode) | st.binary(max_size=6), max_size=40).map(
    lambda lines: [line.replace(b"\n", b"") for line in lines]
)


def vocab_of(symbols: str, *, unknown: bool = False, documents: bool = False, newline: str = "keep") -> Vocab:
    return Vocab("char", newline, "error", unknown, tuple(sorted(symbols)), has_boundary=documents)  # type: ignore[arg-type]


STREAM, DOCUMENTS = vocab_of("\nabcé"), vocab_of("abcé", documents=True)
ENDLESS, REPLACING = vocab_of("abcé "), vocab_of("\nabcé", unknown=True)


def weights_of(vocab: Vocab, settings: ModelSettings = SETTINGS, *, dtype: str = "float32") -> Weights:
    rng = np.random.default_rng(5)
    shapes = weight_shapes(settings, vocab.size)
    return {name: rng.normal(scale=0.8, size=shape).astype(dtype) for name, shape in shapes.items()}


def scorer_of(vocab: Vocab, settings: ModelSettings = SETTINGS, *, threads: int = 1) -> LineScorer:
    return LineScorer(weights_of(vocab, settings), settings, vocab, threads=threads)


def naive_nats(vocab: Vocab, line: bytes, settings: ModelSettings = SETTINGS) -> list[float]:
    """One line alone, symbol by symbol, in float64, by the equations."""
    engine = Engine({name: array.astype(np.float64) for name, array in weights_of(vocab, settings).items()}, settings)
    end = end_id(vocab)
    logits, state = engine.step(np.array([start_id(vocab)]), engine.zero_state(1))
    found = []
    for symbol in [*encode_lines(vocab, [line]).ids.tolist(), *([] if end is None else [end])]:
        if symbol < 0:
            found.append(UNKNOWN_NATS)
            continue
        found.append(-float(log_probs_of(logits, np.array([symbol]))[0]))
        logits, state = engine.step(np.array([symbol]), state)
    return found


@pytest.mark.parametrize("vocab", [STREAM, DOCUMENTS, ENDLESS, REPLACING])
@given(lines=LINES)
def test_scores_are_those_of_each_line_read_alone_in_float64(vocab: Vocab, lines: list[bytes]) -> None:
    found = scorer_of(vocab).score(lines)
    for line, symbols, nats, chars in zip(lines, found.by_line(), found.nats, found.chars, strict=True):
        wanted = naive_nats(vocab, line)
        assert symbols is not None
        assert symbols == pytest.approx(wanted, abs=2e-5)
        assert (nats, chars) == (pytest.approx(sum(wanted), abs=1e-4), len(wanted))


@pytest.mark.parametrize("cell", CELLS)
def test_scores_of_every_cell(cell: str) -> None:
    settings = ModelSettings(cell=cell, embedding_size=5, hidden_size=12, num_layers=2)  # type: ignore[arg-type]
    found = scorer_of(STREAM, settings).score([b"abc", b"", b"cab"])
    assert found.nats == pytest.approx(
        [sum(naive_nats(STREAM, line, settings)) for line in (b"abc", b"", b"cab")], abs=1e-4
    )


@pytest.mark.parametrize("vocab", [STREAM, DOCUMENTS])
def test_probabilities_of_all_lines_up_to_a_length_and_of_the_longer_ones_add_up_to_1(vocab: Vocab) -> None:
    """The mass of the longer ones is what the prefixes of the longest length leave."""
    scorer, letters, most = scorer_of(vocab), "abcé", 4
    lines = ["".join(line).encode() for n in range(most + 1) for line in itertools.product(letters, repeat=n)]
    found = scorer.score(lines)
    ended = np.exp(-found.nats).sum()
    longest = [symbols for symbols in found.by_line() if symbols is not None and len(symbols) == most + 1]
    left = sum(math.exp(-float(symbols[:-1].sum())) * -math.expm1(-float(symbols[-1])) for symbols in longest)
    assert ended + left == pytest.approx(1.0, abs=1e-5)


def automaton(vocab: Vocab) -> tuple[Weights, ModelSettings, np.ndarray]:
    """A model that is a probabilistic automaton, its state the last symbol, and ln p of each symbol after each.

    Gates saturate: i and o are 1, f is 0, g is 1 in the unit of the symbol that was read and −1 in the others.
    """
    size = vocab.size
    log_p = np.log(np.random.default_rng(2).dirichlet(np.ones(size), size=size))  # [last, next]
    on, off = np.full(size, 40.0), np.full(size, -40.0)
    h = np.tanh(1.0)
    weights = {
        "embedding.weight": np.eye(size),
        "core.weight_ih_l0": np.concatenate([np.zeros((2 * size, size)), 80 * np.eye(size), np.zeros((size, size))]),
        "core.weight_hh_l0": np.zeros((4 * size, size)),
        "core.bias_ih_l0": np.concatenate([on, off, off, on]),
        "core.bias_hh_l0": np.zeros(4 * size),
        "output.weight": log_p.T / (2 * h),
        "output.bias": log_p.sum(axis=0) / 2,
    }
    settings = ModelSettings(embedding_size=size, hidden_size=size, num_layers=1)
    return {name: array.astype(np.float32) for name, array in weights.items()}, settings, log_p


def test_scores_of_an_automaton_are_its_probabilities_and_its_lines_cost_its_entropy() -> None:
    weights, settings, log_p = automaton(DOCUMENTS)
    scorer, end = LineScorer(weights, settings, DOCUMENTS), DOCUMENTS.boundary_id
    assert end is not None
    rng = np.random.default_rng(3)
    lines, true = [], []
    for _ in range(3000):
        states = [end]
        while len(states) == 1 or states[-1] != end:
            states.append(int(rng.choice(len(log_p), p=np.exp(log_p[states[-1]]))))
        lines.append(DOCUMENTS.to_bytes(states))
        true.append(-sum(log_p[last, after] for last, after in itertools.pairwise(states)))
    found = scorer.score(lines)
    assert found.nats == pytest.approx(true, rel=1e-5)
    assert np.exp(-scorer.score([b""]).nats) == pytest.approx(np.exp(log_p[end, end]), rel=1e-5)  # that of the end
    chain = np.exp(log_p)[:end, :end]
    visits = np.exp(log_p[end, :end]) @ np.linalg.inv(np.eye(end) - chain)  # of each symbol, in a line on average
    entropies = -(np.exp(log_p) * log_p).sum(axis=1)
    expected = entropies[end] + visits @ entropies[:end]
    assert abs(found.nats.mean() - expected) < 4 * found.nats.std() / math.sqrt(len(lines))


@pytest.mark.parametrize(("size", "layers"), [(12, 2), (37, 1), (64, 2), (128, 2)])
def test_scores_are_the_same_bits_in_any_company(size: int, layers: int) -> None:
    settings = ModelSettings(embedding_size=7, hidden_size=size, num_layers=layers)
    rng = np.random.default_rng(1)
    lines = [bytes(rng.choice(list(b"abcX"), size=rng.integers(60))) for _ in range(2 * LANES + 77)]
    vocab = vocab_of("\nabc" + "".join(map(chr, range(200, 246))))  # V is no multiple of what a product is cut into
    scorer = scorer_of(vocab, settings)
    together = [symbols.tobytes() for symbols in scorer.score(lines).by_line() if symbols is not None]
    for first, last in ((0, 1), (5, 7), (100, 217), (0, LANES)):
        found = scorer.score(lines[first:last])
        assert [symbols.tobytes() for symbols in found.by_line() if symbols is not None] == together[first:last]
    threaded = scorer_of(vocab, settings, threads=2).score(lines)
    assert [symbols.tobytes() for symbols in threaded.by_line() if symbols is not None] == together


def test_a_line_longer_than_a_piece_is_that_of_a_naive_reading_however_it_comes() -> None:
    line = (b"abcXa\xc3\xa9" * PIECE_STEPS)[: 3 * PIECE_STEPS + 5]
    scorer, wanted = scorer_of(STREAM), sum(naive_nats(STREAM, line))
    assert scorer.score([b"a", line]).nats[1] == pytest.approx(wanted, rel=1e-6)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the line closes it
    file.write(line)
    file.flush()
    found = scorer.score([LongLine(file)])
    assert found.nats == pytest.approx([wanted - naive_nats(STREAM, line)[-1]], rel=1e-6)  # its end is not read
    assert (found.chars, found.unknown) == (scorer.score([line]).chars - 1, scorer.score([line]).unknown)


def test_unknown_characters_cost_what_the_unknown_symbol_costs_or_any_code_point() -> None:
    line = "aξ\N{SNOWMAN}b".encode() + b"\xff"
    for vocab, cost in ((STREAM, [UNKNOWN_NATS] * 3), (REPLACING, None)):
        found = scorer_of(vocab).score([line, b"ab"])
        symbols = next(found.by_line())
        assert found.unknown.tolist() == [3, 0]
        assert symbols is not None
        assert len(symbols) == 6
        if cost:
            assert symbols[[1, 2, 4]] == pytest.approx(cost)
            assert symbols[[0, 3, 5]] == pytest.approx([0, 0, 0], abs=50)
            known = next(scorer_of(vocab).score([b"ab"]).by_line())
            assert symbols[[0, 3, 5]] == pytest.approx(known)


def test_carriage_returns_belong_to_the_line_end_where_the_vocabulary_normalizes_them() -> None:
    normal = scorer_of(vocab_of("\nabc", newline="normalize"))
    for scorer in (normal, scorer_of(DOCUMENTS)):
        assert scorer.score([b"ab\r"]).nats == scorer.score([b"ab"]).nats
    assert scorer_of(STREAM).score([b"ab\r"]).unknown == [1]


def test_nothing_and_empty_lines_are_scored() -> None:
    assert len(scorer_of(STREAM).score([]).nats) == 0
    assert scorer_of(STREAM).score([b""]).chars == [1]
    nothing = scorer_of(ENDLESS).score([b"", b"a", b""])
    assert nothing.chars.tolist() == [0, 1, 0]
    assert nothing.nats[[0, 2]].tolist() == [0.0, 0.0]
