"""The number of threads while sampling: the rule, that it is obeyed, and the bits, which it must not change."""

from itertools import product

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from charlstm.cells import CELLS
from charlstm.inference import Engine, build_stepper, numpy_threads, sampling_threads
from charlstm.settings import ModelSettings
from charlstm.weights import weight_shapes


@pytest.mark.parametrize(
    ("hidden_size", "layers", "cores", "load", "threads"),
    [
        (512, 2, 2, 0.0, 2),
        (512, 2, 2, 0.5, 2),
        (512, 2, 2, 0.6, 1),  # the second core is not idle
        (512, 2, 1, 0.0, 1),
        (512, 2, 16, 12.0, 2),
        (512, 2, 16, 15.0, 1),
        (512, 1, 2, 0.0, 2),  # 4·512² weights
        (256, 2, 2, 0.0, 1),  # 3·4·256²
        (528, 2, 2, 0.0, 1),  # OpenBLAS cuts a sum of 528 differently for two threads
        (512, 2, 16, float("inf"), 1),  # a system that does not count
    ],
)
def test_threads_are_two_for_a_large_model_beside_an_idle_core(
    hidden_size: int, layers: int, cores: int, load: float, threads: int
) -> None:
    settings = ModelSettings(hidden_size=hidden_size, num_layers=layers)
    assert sampling_threads(settings, cores=cores, load=load) == threads


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_threads_are_given_to_numpy_and_taken_back() -> None:
    with numpy_threads(2):
        before = blas_threads()
        with numpy_threads(1):
            assert blas_threads() == before
    after = blas_threads()
    with numpy_threads(3):
        assert blas_threads() == [3] * len(after)
    assert blas_threads() == after


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("hidden_size", "layers"), [(320, 2), (512, 1), (576, 2)])
def test_threads_do_not_change_the_bits(cell: str, hidden_size: int, layers: int) -> None:
    settings = ModelSettings(cell=cell, hidden_size=hidden_size, num_layers=layers, embedding_size=5)
    rng = np.random.default_rng(5)
    weights = {name: rng.random(shape, "f4") / 5 - 0.1 for name, shape in weight_shapes(settings, 65).items()}
    steppers = {type(one): one for one in (build_stepper(weights, settings), Engine(weights, settings))}.values()

    def read(threads: int) -> list[np.ndarray]:
        found = []
        with numpy_threads(threads):
            for stepper, streams in product(steppers, (1, 2, 7, 64)):
                state = stepper.zero_state(streams)
                for symbol in (3, 4):
                    logits, state = stepper.step(np.full(streams, symbol), state)
                found.append(logits)
        return found

    assert all(map(np.array_equal, read(1), read(2)))
