"""Evaluation: sums divided once, and a text read in lanes gives what a plain loop over its characters gives.

Letters: `N` characters of the text, `V` vocabulary, `E` embedding, `H` hidden, `L` layers.
"""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from charlstm.errors import TextError
from charlstm.evaluation.evaluate import UNCOUNTED, WARM_UP_CHARS, WINDOW_CHARS, Tally, evaluate, tally
from charlstm.inference import Engine
from charlstm.networks.models import CharLM
from charlstm.settings import ModelSettings

V, E, H, L = 11, 5, 7, 2
N = 3 * 16 * WARM_UP_CHARS + 214  # enough for three lanes, the last of them shorter


def random_model(cell: str = "lstm", *, std: float = 0.8, seed: int = 3) -> CharLM:
    """A model whose state matters: its weights are large."""
    settings = ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L)  # type: ignore[arg-type]
    model = CharLM(V, settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std, generator=generator)
    return model


def random_text(n: int = N) -> np.ndarray:
    return np.random.default_rng(7).integers(V, size=n).astype(np.uint8)


def naive_tally(model: CharLM, ids: np.ndarray, *, window: int | None = None) -> Tally:
    """One character after the other, in float64, by the engine; every `window` predictions from a zero state."""
    weights = {name: p.detach().numpy().astype(np.float64) for name, p in model.named_parameters()}
    cell = "lstm" if len(model.core.cell.gates) == 4 else "gru"
    engine = Engine(weights, ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L))
    nats, hits = 0.0, 0
    state = engine.zero_state(1)
    for at, (symbol, target) in enumerate(itertools.pairwise(ids)):
        if window is not None and at % window == 0:
            state = engine.zero_state(1)
        logits, state = engine.step(np.array([symbol]), state)
        nats += float(np.logaddexp.reduce(logits[0]) - logits[0, target])
        hits += int(logits[0].argmax() == target)
    return Tally(nats, hits, len(ids) - 1)


@pytest.fixture(scope="module")
def plain() -> Tally:
    return naive_tally(random_model(), random_text())


@pytest.mark.parametrize(
    ("batch_size", "sequence_length"),
    [(64, 1), (1, 7), (2, 7), *itertools.product([1, 2, 3, 64], [128, 600, 3001])],
)
def test_evaluation_stream_is_a_plain_loop_however_it_is_cut(
    plain: Tally, batch_size: int, sequence_length: int
) -> None:
    found = evaluate(random_model(), random_text(), batch_size=batch_size, sequence_length=sequence_length)
    assert found.chars == N - 1
    assert found.loss == pytest.approx(plain.loss, abs=1e-4)
    assert found.hits == pytest.approx(plain.hits, abs=5)  # two logits may be equal but for rounding


@pytest.mark.parametrize("batch_size", [2, 4, 64])
def test_evaluation_stream_is_a_plain_loop_for_a_model_that_remembers_for_thousands_of_characters(
    batch_size: int,
) -> None:
    model = random_model(std=0.3)
    with torch.no_grad():
        for layer in range(L):
            model.core.layer_weights(layer)["bias_ih"][H : 2 * H] += 5.0  # the forget gates stay above 0.99
        model.output.weight.normal_(generator=torch.Generator().manual_seed(1))
    expected = naive_tally(model, random_text()).loss
    assert evaluate(model, random_text(), batch_size=batch_size).loss == pytest.approx(expected, abs=1e-4)
    once = evaluate(model, random_text(), batch_size=batch_size, settle=False).loss
    assert batch_size == 4 or abs(once - expected) > 1e-4  # what settling is for


def test_evaluation_of_numbers_that_are_not_finite_ends() -> None:
    model = random_model()
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    assert math.isnan(evaluate(model, random_text(), batch_size=3).loss)


def test_evaluation_the_plain_loop_depends_on_its_state(plain: Tally) -> None:
    without = naive_tally(random_model(), random_text(), window=1)
    assert abs(without.loss - plain.loss) > 0.01  # or the law above would say nothing


@pytest.mark.parametrize("n", [2, 3, WINDOW_CHARS, WINDOW_CHARS + 1, WINDOW_CHARS + 2, 5 * WINDOW_CHARS + 99])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_evaluation_windows_are_a_plain_loop_from_zero_states(n: int, batch_size: int) -> None:
    model, ids = random_model("gru"), random_text(n)
    found = evaluate(model, ids, protocol="windows", batch_size=batch_size)
    expected = naive_tally(model, ids, window=WINDOW_CHARS)
    assert found.chars == n - 1
    assert found.loss == pytest.approx(expected.loss, abs=1e-5)
    assert found.hits == expected.hits


@pytest.mark.parametrize("n", [2, 3, 129, 130, 2 * 16 * WARM_UP_CHARS, 2 * 16 * WARM_UP_CHARS + 1, 24977])
@pytest.mark.parametrize(("batch_size", "settle"), [(1, True), (3, True), (5000, False)])
def test_evaluation_counts_every_character_once(n: int, batch_size: int, settle: bool) -> None:
    """With the nats of character x being a number of its own, a character missed or counted twice shows."""
    model = random_model()
    with torch.no_grad():
        model.output.weight.zero_()
    ids = random_text(n)
    surprisals = -F.log_softmax(model.output.bias.detach().double(), dim=0).numpy()
    found = evaluate(model, ids, batch_size=batch_size, settle=settle)
    assert found.chars == n - 1
    assert found.nats == pytest.approx(surprisals[ids[1:]].sum(), rel=1e-5)
    assert found.hits == (ids[1:] == surprisals.argmin()).sum()


@pytest.mark.parametrize("protocol", ["stream", "windows"])
def test_evaluation_of_a_uniform_model_is_ln_v(protocol: str) -> None:
    model = random_model()
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.fill_(0.7)
    found = evaluate(model, random_text(4567), protocol=protocol)  # type: ignore[arg-type]
    assert found.loss == pytest.approx(math.log(V), rel=1e-5)
    assert found.bits_per_char == pytest.approx(math.log2(V), rel=1e-5)
    assert found.perplexity == pytest.approx(V, rel=1e-5)


def test_evaluation_figures_are_ratios_of_sums() -> None:
    long, short = Tally(nats=900.0, hits=10, chars=600), Tally(nats=1.0, hits=3, chars=4)
    total = long + short
    assert total == Tally(901.0, 13, 604)
    assert total.loss == 901 / 604  # the mean of the two means would be 0.875
    assert total.bits_per_char == pytest.approx(901 / 604 / math.log(2))
    assert total.perplexity == pytest.approx(math.exp(901 / 604))
    assert total.accuracy == 13 / 604
    assert long + Tally() == long
    assert Tally(nats=1e6, chars=10).perplexity == math.inf


def test_evaluation_tally_is_cross_entropy_of_what_is_counted() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0)], [5.0, 5.0]], [[math.log(7.0), 0.0], [1.0, 2.0]]])  # (T, B, V)
    targets = torch.tensor([[1, UNCOUNTED], [1, UNCOUNTED]])
    found = tally(logits, targets)
    assert found.nats == pytest.approx(math.log(4 / 3) + math.log(8))
    assert (found.hits, found.chars) == (1, 2)
    assert tally(logits, torch.full((2, 2), UNCOUNTED)) == Tally()


def test_evaluation_needs_two_characters() -> None:
    for n in (0, 1):
        with pytest.raises(TextError, match=f"at least 2 characters, this one has {n}"):
            evaluate(random_model(), random_text(n))
    assert evaluate(random_model(), random_text(2)).chars == 1


@pytest.mark.parametrize("protocol", ["stream", "windows"])
def test_evaluation_is_deterministic_and_leaves_no_trace(protocol: str) -> None:
    model, ids = random_model(), random_text()
    ids.setflags(write=False)
    loss = model(torch.zeros(3, 2, dtype=torch.long))[0].sum()
    loss.backward()
    model.train()
    before = {name: (p.detach().clone(), p.grad.clone()) for name, p in model.named_parameters()}
    torch.manual_seed(5)
    random_numbers = torch.get_rng_state()
    first, second = (evaluate(model, ids, protocol=protocol, batch_size=3) for _ in range(2))  # type: ignore[arg-type]
    assert first == second
    assert torch.equal(torch.get_rng_state(), random_numbers)
    assert torch.is_grad_enabled()
    assert model.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert torch.equal(parameter.grad, before[name][1])
        assert parameter.requires_grad


def test_evaluation_reads_a_memory_mapped_text(tmp_path: Path) -> None:
    ids = random_text(5000)
    ids.tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", dtype=np.uint8, mode="r")
    assert evaluate(random_model(), mapped) == evaluate(random_model(), ids)
