"""The fast form of the LSTM's step: the engine's own, to rounding; every other cell keeps the engine."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.cells import CELLS
from charlstm.inference import Engine, build_stepper
from charlstm.inference.fast_lstm import CACHE_LINE_BYTES, FastLSTM
from charlstm.settings import ModelSettings
from charlstm.weights import Weights, weight_shapes

E, H, V = 5, 6, 11


def random_weights(settings: ModelSettings, dtype: str = "float64") -> Weights:
    rng = np.random.default_rng(3)
    shapes = weight_shapes(settings, V)
    return {name: rng.normal(scale=0.5, size=shape).astype(dtype) for name, shape in shapes.items()}


def furthest(engine: Engine, fast: FastLSTM, streams: list[int]) -> float:
    """The largest difference of logits and state over a text, read by one number of streams after another."""
    rng, worst = np.random.default_rng(4), 0.0
    for count in streams:
        state = fast_state = engine.zero_state(count)
        for ids in rng.integers(V, size=(7, count)):
            logits, state = engine.step(ids, state)
            fast_logits, fast_state = fast.step(ids, fast_state)
            for found, wanted in zip((fast_logits, *fast_state), (logits, *state), strict=True):
                assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
                worst = max(worst, float(np.abs(found - wanted).max()))
    return worst


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("layers", "skip_connections"), [(1, True), (2, True), (3, True), (3, False)])
def test_fast_steps_are_those_of_the_cells(
    cell: str, layers: int, skip_connections: bool, dtype: str, tolerance: float
) -> None:
    settings = ModelSettings(
        cell=cell,  # type: ignore[arg-type]
        embedding_size=E,
        hidden_size=H,
        num_layers=layers,
        skip_connections=skip_connections,
    )
    weights = random_weights(settings, dtype)
    stepper = build_stepper(weights, settings)
    assert isinstance(stepper, FastLSTM if cell == "lstm" else Engine)
    assert furthest(Engine(weights, settings), stepper, [1, 4, 1, 3]) <= tolerance  # type: ignore[arg-type]


@given(
    layers=st.integers(1, 4),
    skip_connections=st.booleans(),
    size=st.integers(1, 19),
    streams=st.lists(st.integers(1, 5), min_size=1, max_size=3),
)
def test_fast_steps_are_those_of_the_cells_for_every_size(
    layers: int, skip_connections: bool, size: int, streams: list[int]
) -> None:
    settings = ModelSettings(embedding_size=E, hidden_size=size, num_layers=layers, skip_connections=skip_connections)
    engine = Engine(random_weights(settings), settings)
    assert furthest(engine, FastLSTM(engine), streams) <= 1e-12


@pytest.mark.parametrize("cell", CELLS)
def test_fast_steps_leave_the_state_they_were_given_and_do_not_share_the_one_they_give(cell: str) -> None:
    settings = ModelSettings(cell=cell, embedding_size=E, hidden_size=H)  # type: ignore[arg-type]
    fast = build_stepper(random_weights(settings), settings)
    for streams in (1, 3):
        ids = np.arange(streams)
        _, state = fast.step(ids, fast.zero_state(streams))
        copies = [part.copy() for part in state]
        first, after = fast.step(ids, state)
        kept = [first.copy(), *(part.copy() for part in after)]
        again, _ = fast.step(ids, state)
        assert np.array_equal(first, again)
        assert all(map(np.array_equal, state, copies))
        assert all(map(np.array_equal, (first, *after), kept))


def test_fast_weights_are_derived_and_the_engines_left_alone() -> None:
    settings = ModelSettings(embedding_size=E, hidden_size=H)
    weights = random_weights(settings)
    copies = {name: array.copy() for name, array in weights.items()}
    fast = build_stepper(weights, settings)
    assert isinstance(fast, FastLSTM)
    fast.step(np.zeros(2, dtype=int), fast.zero_state(2))
    assert all(np.array_equal(weights[name], copies[name]) for name in copies)
    assert all(packed.ctypes.data % CACHE_LINE_BYTES == 0 for packed in fast.weights)
