"""The gates that are read are those of the engine; the surprisal is that of its predictions.

Letters: `V` vocabulary, `T` characters, `L` layers, `H` hidden.
"""

import numpy as np
import pytest

from charlstm.analysis import gates
from charlstm.cells import CELLS, LETTERS
from charlstm.errors import SettingsError
from charlstm.inference import Engine

from .small_models import H, L, engine_of, model_settings

V, T, START = 11, 23, 8


def ids_of(length=T):
    return np.random.default_rng(2).integers(V, size=length)


def read_gates(engine, ids, **how):
    return gates.read_gates(engine, ids, start_id=START, **how)


def state_at_start(engine):
    return engine.step(np.array([START]), engine.zero_state(1))[1]


@pytest.fixture(params=CELLS)
def cell(request):
    return request.param


def test_gates_are_those_of_the_engine_stepped_by_hand(cell):
    engine, ids = engine_of(V, cell=cell), ids_of()
    activity = read_gates(engine, ids)
    assert (activity.shape, activity.gates, activity.state) == ((T, L, H), engine.cell.gates, engine.cell.state)
    state = state_at_start(engine)
    for t in range(T):
        _, state, of_layers = engine.step_gates(ids[t : t + 1], state)
        for name, part in zip(engine.cell.state, state, strict=True):
            np.testing.assert_array_equal(activity.values[name][t], part[:, 0])
        for layer in range(L):
            for name, value in zip(engine.cell.gates, of_layers[layer], strict=True):
                np.testing.assert_array_equal(activity.values[name][t, layer], value[0])


def test_gates_that_open_and_shut_stay_between_0_and_1(cell):
    activity = read_gates(engine_of(V, cell=cell), ids_of())
    assert set(activity.gates) - set(activity.sigmoid_gates) == set(activity.gates) & {"g", "n"}
    for name in activity.sigmoid_gates:
        assert 0 <= activity.values[name].min() <= activity.values[name].max() <= 1
    assert all(name in LETTERS for name in activity.values)


def test_gates_surprisal_is_minus_log2_of_what_the_step_before_gave(cell, monkeypatch):
    monkeypatch.setattr(gates, "GUESSES", 4)
    engine, ids = engine_of(V, cell=cell), ids_of(300)  # longer than a block of logits
    activity = read_gates(engine, ids)
    state = engine.zero_state(1)
    for t, read in enumerate([START, *ids], start=-1):
        logits, state = engine.step(np.array([read]), state)
        probabilities = np.exp(logits[0].astype(np.float64))
        probabilities /= probabilities.sum()
        if t + 1 < len(ids):
            assert activity.surprisal[t + 1] == pytest.approx(-np.log2(probabilities[ids[t + 1]]), abs=1e-4)
        if t >= 0:
            assert activity.guess_ids[t].tolist() == np.argsort(-probabilities)[:4].tolist()
            np.testing.assert_allclose(activity.guess_probs[t], np.sort(probabilities)[::-1][:4], atol=1e-5)


def test_gates_mean_surprisal_is_the_bits_per_char_of_eval(cell):
    torch = pytest.importorskip("torch")
    from charlstm.evaluation import evaluate
    from charlstm.networks import OBJECTIVES, CharLM

    settings = model_settings(cell=cell)
    model = CharLM(V, settings, seed=3)
    with torch.no_grad():
        model.output.weight.normal_(generator=torch.Generator().manual_seed(4))
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    ids = ids_of(700)
    assert read_gates(Engine(weights, settings), ids).bits_per_char == pytest.approx(
        evaluate(model, OBJECTIVES["next"], ids, start_id=START).tally.bits_per_char, abs=1e-4
    )


def test_gates_memory_alone_is_that_read_with_the_gates(cell):
    engine, ids = engine_of(V, cell=cell), ids_of()
    activity = read_gates(engine, ids)
    np.testing.assert_array_equal(gates.read_memory(engine, ids, start_id=START), activity.values[activity.memory])
    assert activity.memory == ("c" if "c" in activity.values else "h")


def test_gates_open_and_shut_are_fractions_of_the_time():
    values = np.array([0.95, 0.95, 0.5, 0.05, 0.9], dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    is_open, is_shut = gates.open_and_shut(values)
    assert (is_open.shape, is_shut.shape) == ((2, 3), (2, 3))
    np.testing.assert_allclose([is_open[1, 2], is_shut[1, 2]], [0.4, 0.2])


def test_gates_refuse_a_text_whose_values_would_not_fit(monkeypatch):
    engine = engine_of(V)
    monkeypatch.setattr(gates, "MOST_NUMBERS", 10 * 6 * L * H)
    assert read_gates(engine, ids_of(10)).shape[0] == 10
    with pytest.raises(SettingsError, match="--length 10 or less"):
        read_gates(engine, ids_of(11))
    assert gates.read_memory(engine, ids_of(60), start_id=START).shape[0] == 60
    with pytest.raises(SettingsError, match="--study 60 or less"):
        gates.read_memory(engine, ids_of(61), start_id=START)
