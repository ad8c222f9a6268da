"""Cells: every law for every cell, by hand and by torch's kernel, and the equations' own corners."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from charlstm.cells import CELLS, sigmoid

from .laws import FROM_GATES, KERNEL_MODULES, LAWS, PAIRS, SUBJECTS, E, H, random_step
from .scalar_equations import SCALAR

torch.set_num_threads(1)


@pytest.mark.parametrize(("law", "core"), PAIRS)
def test_cells_every_cell_obeys_every_law(law: str, core: str, measured: Callable[[str, float], None]) -> None:
    difference = LAWS[law].difference(SUBJECTS[core])
    measured(f"{law} (allowed {LAWS[law].tolerance:g})", difference)
    assert difference <= LAWS[law].tolerance


@pytest.mark.parametrize("cell", CELLS)
def test_cells_every_cell_has_its_equations_in_the_laws(cell: str) -> None:
    assert cell in SCALAR, f"write {cell} in tests/scalar_equations.py, from its paper, not from cells.py"
    assert CELLS[cell].gates in FROM_GATES, f"write in tests/laws how the gates of {cell} make its new state"


def test_cells_weights_have_torchs_names_shapes_and_order() -> None:
    for name, kernel in KERNEL_MODULES.items():
        shapes = {key.removesuffix("_l0"): tuple(p.shape) for key, p in kernel(E, H).named_parameters()}
        assert CELLS[name].weight_shapes(E, H) == shapes
    assert CELLS["peephole"].weight_shapes(E, H)["weight_ch"] == (3, H)
    assert CELLS["peephole-full"].weight_shapes(E, H)["weight_ch"] == (3 * H, H)


@pytest.mark.parametrize("xp", [np, torch])
def test_cells_sigmoid_is_exact_and_never_overflows(xp: Any) -> None:
    points = [-1000.0, -700.0, -30.0, -5.0, -0.1, 0.0, 1e-9, 0.5, 3.0, 36.0, 1000.0]
    found = sigmoid(xp.asarray(points, dtype=xp.float64), xp).tolist()
    expected = [1.0 / (1.0 + math.exp(-x)) if x > -709 else 0.0 for x in points]
    assert np.abs(np.subtract(found, expected)).max() <= 2e-16


@pytest.mark.parametrize("cell", CELLS)
def test_cells_saturated_gates_stay_finite(cell: str) -> None:
    from_input, from_hidden, state, weight_ch = random_step(SUBJECTS[cell])
    after, gates = CELLS[cell].step(from_input * 1e6, from_hidden * 1e6, state, weight_ch, np)
    assert all(np.isfinite(array).all() for array in (*after, *gates))
