"""Evaluation: sums divided once, and a text read in lanes gives what a plain loop over its characters gives.

Letters: `N` characters of the text, `V` vocabulary, `E` embedding, `H` hidden, `L` layers.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from charlstm.errors import TextError
from charlstm.evaluation import Evaluation, Tally, stream
from charlstm.evaluation import evaluate as evaluate_model
from charlstm.evaluation.protocols import WINDOW_CHARS
from charlstm.evaluation.tally import tally_lanes
from charlstm.inference import Engine, SamplingParameters, build_stepper, generate
from charlstm.machine import Machine
from charlstm.networks import OBJECTIVES, UNCOUNTED, CharLM
from charlstm.settings import ModelSettings, Naming
from charlstm.text import Vocab, start_id

V, E, H, L = 11, 5, 7, 2
START = 9
LANE_CHARS = 128  # at least; of so short lanes the laws are the same
N = 4 * LANE_CHARS + 14  # enough for four lanes, the last of them shorter


@pytest.fixture(autouse=True)
def short_lanes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "WARM_UP_CHARS", LANE_CHARS // 8)
        patch.setattr(stream, "LEAST_LANE_CHARS", LANE_CHARS)
        yield


def random_model(cell: str = "lstm", *, std: float = 0.8, seed: int = 3) -> CharLM:
    """A model whose state matters: its weights are large."""
    settings = ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L)  # type: ignore[arg-type]
    model = CharLM(V, settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std, generator=generator)
    return model


def evaluate(model: CharLM, ids: np.ndarray, **how: Any) -> Evaluation:
    return evaluate_model(model, OBJECTIVES["next"], ids, start_id=min(START, len(model.output.bias) - 1), **how)


def random_text(n: int = N) -> np.ndarray:
    return np.random.default_rng(7).integers(V, size=n).astype(np.uint8)


def naive_tally(model: CharLM, ids: np.ndarray, *, window: int | None = None) -> Tally:
    """One character after the other, in float64, by the engine; every `window` predictions from a zero state.

    Without windows the first one is read after the start symbol.
    """
    ids = np.append([START], ids) if window is None else ids
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


@pytest.mark.parametrize(("lanes", "sequence_length"), [(64, 1), (2, 7), *itertools.product([1, 2, 3, 64], [60, 3001])])
def test_stream_is_a_plain_loop_however_it_is_batched(plain: Tally, lanes: int, sequence_length: int) -> None:
    found = evaluate(random_model(), random_text(), lanes=lanes, sequence_length=sequence_length)
    assert found.lanes == min(lanes, 4)
    assert found.tally.chars == N
    assert found.tally.loss == pytest.approx(plain.loss, abs=1e-4)
    assert found.tally.hits == pytest.approx(plain.hits, abs=5)  # two logits may be equal but for rounding


def make_forgetful(model: CharLM, forget_bias: float) -> CharLM:
    """Let the forget gates of a random model stay open or shut."""
    with torch.no_grad():
        for layer in range(L):
            model.core.layer_weights(layer)["bias_ih"][H : 2 * H] += forget_bias
        model.output.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("lanes", [2, 64])
def test_stream_is_a_plain_loop_for_a_model_that_remembers_for_several_lanes(lanes: int) -> None:
    model = make_forgetful(random_model(std=0.3), 5.0)  # above 0.99
    expected = naive_tally(model, random_text()).loss
    found = evaluate(model, random_text(), lanes=lanes)
    assert found.tally.loss == pytest.approx(expected, abs=1e-4)
    assert found.reread_chars > 0


def test_stream_reads_nothing_twice_for_a_model_that_forgets_at_once() -> None:
    assert evaluate(make_forgetful(random_model(std=0.3), -9.0), random_text()).reread_chars == 0


SET, RESET, QUERY, OTHER = range(4)


def latch() -> CharLM:
    """An LSTM of one unit that keeps for ever which of SET and RESET came last, and shows it on QUERY alone."""
    model = CharLM(4, ModelSettings(embedding_size=4, hidden_size=1, num_layers=1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embedding.weight.copy_(torch.eye(4))
        weights = model.core.layer_weights(0)
        i, f, g, o = range(4)
        weights["bias_ih"].copy_(torch.tensor([-30.0, 30.0, 0.0, -15.0]))  # shut, kept, nothing, hidden
        for symbol, written in ((SET, 20.0), (RESET, -20.0)):
            weights["weight_ih"][i, symbol], weights["weight_ih"][f, symbol] = 60.0, -60.0
            weights["weight_ih"][g, symbol] = written
        weights["weight_ih"][o, QUERY] = 30.0
        model.output.weight[OTHER, 0] = 5.0
    return model


def test_stream_is_a_plain_loop_for_a_model_that_shows_what_it_latched_only_on_a_rare_symbol() -> None:
    """Nothing at the heads of the lanes tells that they began with another state than they should have."""
    n, lanes = 3000, 7
    lane_chars = -(-(n - 1) // lanes)
    ids = np.where(np.random.default_rng(3).random(n) < 0.1, QUERY, OTHER)
    for start in range(0, n, lane_chars):
        head = slice(max(start - 50, 0), start + 150)
        ids[head] = OTHER
    ids[0], ids[3 * lane_chars + 200] = SET, RESET
    expected = evaluate(latch(), ids, lanes=1)
    never_reset = np.where(ids == RESET, OTHER, ids)
    assert abs(evaluate(latch(), never_reset, lanes=1).tally.loss - expected.tally.loss) > 0.05  # it does matter
    found = evaluate(latch(), ids, lanes=lanes)
    assert found.lanes == lanes
    assert found.tally.loss == pytest.approx(expected.tally.loss, abs=1e-5)
    assert found.reread_chars == 3 * lane_chars  # lane after lane


def counter(cell: Any, **biases: float) -> CharLM:
    """One unit that counts symbol 0 up by 0.96 and symbol 1 down, all gates open; its logits are 5·h, −5·h and 0."""
    model = CharLM(3, ModelSettings(cell=cell, embedding_size=3, hidden_size=1, num_layers=1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embedding.weight.copy_(torch.eye(3))
        weights = model.core.layer_weights(0)
        weights["bias_ih"].copy_(torch.tensor([30.0, 30.0, 0.0, biases.get("output", 30.0)]))
        weights["weight_ih"][2] = torch.tensor([2.0, -2.0, 0.0])
        if "peephole" in biases:
            weights["weight_ch"][2] = biases["peephole"]
        model.output.weight.copy_(torch.tensor([[5.0], [-5.0], [0.0]]))
    return model


@pytest.mark.parametrize("depth", [3, 5, 12])
def test_stream_is_a_plain_loop_for_a_model_that_counts_up_and_down_again(depth: int) -> None:
    """Beyond 4 a count looks through tanh like the next one, until it comes down."""
    lane_chars, lanes = LANE_CHARS, 8
    ids = np.full(lanes * lane_chars, 2)
    ids[70 : 70 + depth] = ids[lane_chars + 5 : lane_chars + 5 + depth] = 0
    ids[4 * lane_chars + 9 : 4 * lane_chars + 9 + 2 * depth - 2] = 1
    expected = evaluate(counter("lstm"), ids, lanes=1)
    found = evaluate(counter("lstm"), ids, lanes=lanes)
    assert found.lanes == lanes
    assert found.tally.loss == pytest.approx(expected.tally.loss, abs=1e-4)


def test_stream_is_a_plain_loop_for_a_model_whose_gates_see_how_far_it_counted() -> None:
    model = counter("peephole", output=-90.0, peephole=0.3)  # the output gate opens beyond a count of 300
    ids = np.zeros(4 * LANE_CHARS, dtype=np.int64)
    expected = evaluate(model, ids, lanes=1)
    found = evaluate(model, ids, lanes=4)
    assert found.lanes > 1
    assert found.tally.loss == pytest.approx(expected.tally.loss, abs=1e-3)
    assert expected.tally.loss < math.log(3) - 0.1  # it does open


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stream_in_shards_and_threads_has_the_same_bits(precision: str) -> None:
    def measure(threads: int) -> Evaluation:
        machine = Machine(torch.device("cpu"), precision, shards=3, threads=threads)
        return evaluate(random_model(), random_text(), machine=machine)

    assert measure(1) == measure(2) == measure(3)


def test_evaluation_of_numbers_that_are_not_finite_ends() -> None:
    model = random_model()
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    assert math.isnan(evaluate(model, random_text(), lanes=3).tally.loss)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_stream_of_a_short_text_begins_after_the_start_symbol(n: int) -> None:
    model, ids = random_model(), random_text(n)
    assert evaluate(model, ids).tally.nats == pytest.approx(naive_tally(model, ids).nats, abs=1e-4)


@pytest.mark.parametrize("prompt", ["", "\n", "cab"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_text_has_the_probability_with_which_it_is_sampled(cell: Any, prompt: str) -> None:
    vocab = Vocab("char", "keep", "error", has_unknown_symbol=False, symbols=tuple("\nabcdefghij"))
    model = random_model(cell)
    settings = ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L)
    stepper = build_stepper({name: p.detach().numpy() for name, p in model.named_parameters()}, settings)
    prompt_ids = vocab.encode_text(prompt, where="here")

    def nats(ids: np.ndarray) -> float:
        return evaluate_model(model, OBJECTIVES["next"], ids, start_id=start_id(vocab)).tally.nats if len(ids) else 0.0

    *_, (sample,) = generate(stepper, vocab, SamplingParameters(), prompt=prompt_ids, length=7, seed=2)
    drawn = np.append(prompt_ids, sample.pending)
    assert -sample.log_prob == pytest.approx(nats(drawn) - nats(prompt_ids), abs=1e-4)


def test_evaluation_the_plain_loop_depends_on_its_state(plain: Tally) -> None:
    without = naive_tally(random_model(), random_text(), window=1)
    assert abs(without.loss - plain.loss) > 0.01  # or the law above would say nothing


@pytest.mark.parametrize("n", [2, WINDOW_CHARS, WINDOW_CHARS + 1, WINDOW_CHARS + 2, 3 * WINDOW_CHARS + 99])
@pytest.mark.parametrize("lanes", [1, 2, 64])
def test_windows_are_a_plain_loop_from_zero_states(n: int, lanes: int) -> None:
    model, ids = random_model("gru"), random_text(n)
    found = evaluate(model, ids, protocol="windows", lanes=lanes).tally
    expected = naive_tally(model, ids, window=WINDOW_CHARS)
    assert found.chars == n - 1
    assert found.loss == pytest.approx(expected.loss, abs=1e-5)
    assert found.hits == expected.hits


@pytest.mark.parametrize("n", [1, 2, 3, 2 * LANE_CHARS, 2 * LANE_CHARS + 1, 977])
@pytest.mark.parametrize("lanes", [1, 3, 5000])
def test_evaluation_counts_every_character_once(n: int, lanes: int) -> None:
    """With the nats of character x being a number of its own, a character missed or counted twice shows."""
    model = random_model()
    with torch.no_grad():
        model.output.weight.zero_()
    ids = random_text(n)
    surprisals = -F.log_softmax(model.output.bias.detach().double(), dim=0).numpy()
    found = evaluate(model, ids, lanes=lanes).tally
    assert found.chars == n
    assert found.nats == pytest.approx(surprisals[ids].sum(), rel=1e-5)
    assert found.hits == (ids == surprisals.argmin()).sum()


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
    assert [*total.figures(Naming())] == ["loss", "bits_per_char", "perplexity", "accuracy"]
    assert total.figures(Naming("cloze_", "byte"))["cloze_bits_per_byte"] == total.bits_per_char


def test_evaluation_tally_is_cross_entropy_of_what_is_counted() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0)], [5.0, 5.0]], [[math.log(7.0), 0.0], [1.0, 2.0]]])  # (T, B, V)
    targets = torch.tensor([[1, UNCOUNTED], [1, UNCOUNTED]])
    found = tally_lanes(logits, targets)
    assert found.total().nats == pytest.approx(math.log(4 / 3) + math.log(8))
    assert (found.total().hits, found.total().chars) == (1, 2)
    assert [sums[1] for sums in found] == [0, 0, 0, 0, 0]  # the other lane
    assert tally_lanes(logits, torch.full((2, 2), UNCOUNTED)).total() == Tally()


def test_evaluation_needs_a_character_to_predict() -> None:
    for protocol, needed in (("stream", 1), ("windows", 2)):
        with pytest.raises(TextError, match=f"by {protocol} needs {needed} or more .* has {needed - 1}"):
            evaluate(random_model(), random_text(needed - 1), protocol=protocol)
        assert evaluate(random_model(), random_text(needed), protocol=protocol).tally.chars == 1


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
    first, second = (evaluate(model, ids, protocol=protocol, lanes=3) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), random_numbers)
    assert torch.is_grad_enabled()
    assert model.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert torch.equal(parameter.grad, before[name][1])
        assert parameter.requires_grad
