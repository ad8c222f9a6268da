"""Weights in 8 bits: the products, the steps of a single lane, and where they are refused."""

import sys

import numpy as np
import pytest

from charlstm.cells import CELLS
from charlstm.errors import SettingsError
from charlstm.inference import Engine, build_stepper
from charlstm.inference.fast_lstm import FastLSTM
from charlstm.inference.int8 import BLOCK, Int8Matrix
from charlstm.settings import ModelSettings

from .test_fast_lstm import E, H, V, furthest, random_weights

SHAPES = [(1, 3), (7, 12), (BLOCK, 24), (BLOCK + 5, 40), (3 * BLOCK, 17)]


@pytest.fixture
def int8() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[int8]'")
    pytest.importorskip("onnx")


def product(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    found = np.full(matrix.shape[1], np.nan, dtype=np.float32)
    Int8Matrix(matrix).bind(vector, found)()
    return found


@pytest.mark.usefixtures("int8")
@pytest.mark.parametrize("shape", SHAPES)
def test_int8_products_of_numbers_that_8_bits_hold_are_exact(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    matrix, vector = (rng.integers(-127, 128, size=size).astype(np.float32) for size in (shape, shape[0]))
    matrix[::BLOCK], vector[::BLOCK] = 127, -127  # every block has a scale of 1
    assert np.array_equal(product(matrix, vector), vector @ matrix)


@pytest.mark.usefixtures("int8")
@pytest.mark.parametrize("shape", SHAPES)
def test_int8_weights_are_off_by_half_a_step_of_their_block_at_most(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    matrix = (rng.normal(size=shape) * rng.lognormal(size=shape[1])).astype(np.float32)  # outputs of unlike sizes
    for place in range(0, shape[0], 29):
        one_hot = (np.arange(shape[0]) == place).astype(np.float32)  # which 8 bits hold
        first = place - place % BLOCK
        step = np.abs(matrix[first : first + BLOCK]).max(axis=0) / 127
        assert (np.abs(product(matrix, one_hot) - matrix[place]) <= 0.5001 * step).all()


@pytest.mark.usefixtures("int8")
def test_int8_products_of_weights_that_are_all_zero_are_zero_and_those_beside_them_are_not() -> None:
    matrix = np.zeros((BLOCK + 2, 5), dtype=np.float32)
    matrix[BLOCK, 3] = 2
    assert product(matrix, np.ones(len(matrix), dtype=np.float32)).tolist() == [0, 0, 0, 2, 0]


@pytest.mark.usefixtures("int8")
@pytest.mark.parametrize(("layers", "skip_connections"), [(1, True), (2, True), (3, False)])
def test_int8_steps_of_one_lane_are_nearly_and_of_several_exactly_those_of_float32(
    layers: int, skip_connections: bool
) -> None:
    settings = ModelSettings(embedding_size=E, hidden_size=H, num_layers=layers, skip_connections=skip_connections)
    engine = Engine(random_weights(settings, "float32"), settings)
    rounded, exact = FastLSTM(engine, int8=True), FastLSTM(engine)
    assert 1e-5 < furthest(engine, rounded, [1]) < 0.03
    assert furthest(engine, rounded, [1, 4, 1]) < 0.03  # arrays made anew are bound anew
    assert furthest(engine, rounded, [4, 3]) == furthest(engine, exact, [4, 3])


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "lstm"])
def test_int8_weights_of_another_cell_are_refused(cell: str) -> None:
    settings = ModelSettings(cell=cell, embedding_size=E, hidden_size=H)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=f"this model is of the cell {cell}: set it to float32"):
        build_stepper(random_weights(settings, "float32"), settings, int8=True)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_int8_without_its_libraries_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SettingsError, match=r"not installed: pip install onnx .* .the extra int8"):
        Int8Matrix(np.ones((V, H), dtype=np.float32))


@pytest.mark.usefixtures("int8")
def test_int8_where_onnxruntime_has_no_products_of_8_bits_says_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_given: object, **_options: object) -> None:
        raise RuntimeError("Only 4b quantization is supported")

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    with pytest.raises(
        SettingsError, match=r"cannot multiply on this machine: install 1\.22 or later, or set it to float32"
    ):
        Int8Matrix(np.ones((V, H), dtype=np.float32))
