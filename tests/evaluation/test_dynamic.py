"""Dynamic evaluation: what it learns, when, and that the text is all it learns from.

Letters: `N` characters of the text, `V` vocabulary, `E` embedding, `H` hidden, `L` layers, `T` characters of a segment.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from charlstm.errors import TextError
from charlstm.evaluation import DynamicRule, Tally, dynamic, evaluate, evaluate_dynamic
from charlstm.evaluation.dynamic import Learner
from charlstm.networks import OBJECTIVES, CharLM
from charlstm.settings import ModelSettings

V, E, H, L, START = 11, 5, 7, 2, 9
T = 4
N = 6 * T + 3
RULE = DynamicRule(rate=0.05, decay=0.1)

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "SEGMENT_CHARS", T)
    monkeypatch.setattr(dynamic, "STATISTICS_STEPS", 10)
    monkeypatch.setattr(dynamic, "TUNING_CHARS", 60)
    monkeypatch.setattr(dynamic, "RATES", (1e-4, 1e-3))
    monkeypatch.setattr(dynamic, "DECAYS", (1e-3, 1e-2))


def random_model(*, std: float = 0.5) -> CharLM:
    model = CharLM(V, ModelSettings(embedding_size=E, hidden_size=H, num_layers=L))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std, generator=generator)
    return model


def random_text(n: int = N, *, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(V, size=n).astype(np.uint8)


def learner_of(model: CharLM) -> Learner:
    generator = torch.Generator().manual_seed(4)
    sizes = [torch.rand(parameter.shape, generator=generator) + 0.1 for parameter in model.parameters()]
    sizes[0][: V // 2] = 0.0  # symbols that the training text lacks
    return Learner(model, OBJECTIVES["next"], START, sizes)


def tallies(learner: Learner, ids: np.ndarray, rule: DynamicRule = RULE) -> list[Tally]:
    return list(learner.read(ids, rule))


def nats(learner: Learner, ids: np.ndarray) -> float:
    return sum(tally.nats for tally in tallies(learner, ids))


def plain_nats(learner: Learner, ids: np.ndarray, rule: DynamicRule) -> list[float]:
    """Character after character in float64, each loss by itself, and the rule as the paper writes it."""
    model = CharLM(V, ModelSettings(embedding_size=E, hidden_size=H, num_layers=L, kernel="unrolled")).double()
    model.load_state_dict(learner.model.state_dict())
    trained = [parameter.detach().clone() for parameter in model.parameters()]
    sizes = [size.double() for size in learner.sizes]
    mean = torch.cat([size.flatten() for size in sizes]).mean()
    state, found, loss, since = None, [], torch.zeros((), dtype=torch.float64), 0
    for symbol, target in pairwise([START, *ids.tolist()]):
        logits, state = model(torch.tensor([[symbol]]), state, dtype=torch.float64)
        nats = F.cross_entropy(logits[0], torch.tensor([target]))
        found.append(nats.item())
        loss, since = loss + nats, since + 1
        if since == T:
            gradients = torch.autograd.grad(loss / T, list(model.parameters()))
            for weight, before, gradient, size in zip(model.parameters(), trained, gradients, sizes, strict=True):
                back = torch.clamp(rule.decay * size / mean, max=1.0)
                weight.data = weight + back * (before - weight) - rule.rate * gradient / (size + 0.1 * mean)
            state, loss, since = tuple(part.detach() for part in state), torch.zeros(()), 0
    return found


@pytest.mark.parametrize("rule", [RULE, DynamicRule(0.02, 0.0), DynamicRule(0.05, 0.8)])
def test_dynamic_reading_is_a_plain_loop(rule: DynamicRule) -> None:
    learner, ids = learner_of(random_model()), random_text()
    expected = plain_nats(learner, ids, rule)
    found = tallies(learner, ids, rule)
    assert [tally.chars for tally in found] == [T] * 6 + [3]
    for first, tally in zip(range(0, N, T), found, strict=True):
        assert tally.nats == pytest.approx(sum(expected[first : first + T]), abs=2e-4)


def test_dynamic_reading_that_learns_nothing_is_the_stream() -> None:
    learner, ids = learner_of(random_model()), random_text()
    expected = evaluate(learner.model, OBJECTIVES["next"], ids, start_id=START).tally
    found = sum(tallies(learner, ids, DynamicRule(0.0, 0.0)), Tally())
    assert (found.hits, found.chars) == (expected.hits, expected.chars)
    assert found.nats == pytest.approx(expected.nats, abs=1e-4)
    assert abs(nats(learner, ids) - expected.nats) > 0.01  # or learning would not matter here


def test_dynamic_reading_predicts_each_character_before_it_learns_from_it() -> None:
    """What it gives to all characters that could come next adds up to 1, wherever in a segment they stand."""
    learner, ids = learner_of(random_model()), random_text()
    for before in (0, 1, T - 1, T, T + 1, 3 * T - 1, 3 * T):
        known = nats(learner, ids[:before])
        shares = [math.exp(known - nats(learner, np.append(ids[:before], symbol))) for symbol in range(V)]
        assert sum(shares) == pytest.approx(1, abs=1e-4)


def test_dynamic_reading_of_the_last_character_moves_no_other() -> None:
    learner, ids = learner_of(random_model()), random_text(6 * T)
    changed = np.append(ids[:-1], (ids[-1] + 1) % V)
    found, other = tallies(learner, ids), tallies(learner, changed)
    assert found[:-1] == other[:-1]
    assert found[-1] != other[-1]


def test_dynamic_decay_alone_keeps_the_trained_weights() -> None:
    learner, ids = learner_of(random_model()), random_text()
    still, decaying = (tallies(learner, ids, DynamicRule(0.0, decay)) for decay in (0.0, 0.5))
    assert still == decaying


def test_dynamic_evaluation_leaves_the_model_as_it_is() -> None:
    model = random_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    evaluate_dynamic(model, OBJECTIVES["next"], [random_text()], random_text(200), start_id=START)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dynamic_evaluation_begins_every_text_anew_and_tells_how_far_it_is() -> None:
    model, texts, done = random_model(), [random_text(), random_text(seed=8)], [0.0]
    both, rule = evaluate_dynamic(model, OBJECTIVES["next"], texts, random_text(200), start_id=START, tell=done.append)
    alone = [
        evaluate_dynamic(model, OBJECTIVES["next"], [ids], random_text(200), start_id=START)[0][0] for ids in texts
    ]
    assert both == alone
    assert rule.tuned_chars == 60
    assert sorted(done) == done
    assert done[-1] == 1


def test_dynamic_evaluation_takes_the_rates_of_the_lowest_loss_on_the_training_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: dict[tuple[float, float], int] = {}
    losses = {(rate, decay): abs(rate - 3) + abs(decay - 0.2) for rate in (1, 2, 3) for decay in (0.1, 0.2)}

    def read(_self: Learner, ids: np.ndarray, rule: DynamicRule) -> list[Tally]:
        tried[rule.rate, rule.decay] = len(ids)
        return [Tally(losses[rule.rate, rule.decay] * len(ids), 0, len(ids))]

    monkeypatch.setattr(dynamic, "RATES", (1, 2, 3))
    monkeypatch.setattr(dynamic, "DECAYS", (0.1, 0.2))
    monkeypatch.setattr(dynamic, "TUNING_CHARS", 90)
    monkeypatch.setattr(Learner, "read", read)
    _, rule = evaluate_dynamic(random_model(), OBJECTIVES["next"], [random_text()], random_text(200), start_id=START)
    assert rule == DynamicRule(3, 0.2, tuned_chars=90)
    assert tried == {(1, 0.1): 90, (2, 0.1): 90, (3, 0.1): 90, (3, 0.2): N}


def test_dynamic_evaluation_gains_on_a_text_that_repeats_a_passage() -> None:
    learner, ids = learner_of(random_model(std=0.1)), np.tile([3, 1, 4, 1, 5], 60)
    static = evaluate(learner.model, OBJECTIVES["next"], ids, start_id=START).tally
    assert nats(learner, ids) / len(ids) < static.loss - 0.2


@pytest.mark.parametrize("n", [2, 3, T, T + 1, 2 * T + 1])
def test_dynamic_evaluation_takes_texts_of_any_length(n: int) -> None:
    (found,), _ = evaluate_dynamic(
        random_model(), OBJECTIVES["next"], [random_text(n - 1)], random_text(n), start_id=START
    )
    assert found.chars == n - 1
    assert math.isfinite(found.loss)


def test_dynamic_evaluation_needs_a_character_to_predict() -> None:
    with pytest.raises(TextError, match="1 or more characters, this one has 0"):
        evaluate_dynamic(random_model(), OBJECTIVES["next"], [random_text(0)], random_text(9), start_id=START)
    with pytest.raises(TextError, match="tuned, needs 2 or more characters"):
        evaluate_dynamic(random_model(), OBJECTIVES["next"], [random_text()], random_text(1), start_id=START)
