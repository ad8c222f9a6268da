"""Cells: every law for every cell, by hand and by torch's kernel, and the equations' own corners."""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
import torch

from charlstm.cells import CELLS, sigmoid

from .laws import PAIRS
from .laws.running import KERNEL_MODULES
from .laws.subjects import LAWS, SUBJECTS, E, H, random_step
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


def test_cells_weights_have_torchs_names_shapes_and_order() -> None:
    for name, kernel in KERNEL_MODULES.items():
        shapes = {key.removesuffix("_l0"): tuple(p.shape) for key, p in kernel(E, H).named_parameters()}
        assert CELLS[name].weight_shapes(E, H) == shapes
    assert CELLS["peephole"].weight_shapes(E, H)["weight_ch"] == (3, H)
    assert CELLS["peephole-full"].weight_shapes(E, H)["weight_ch"] == (3 * H, H)


def exact_sigmoid(x: float) -> Decimal:
    with localcontext(prec=40):
        return 1 / (1 + (-Decimal(x)).exp())


def points(xp: Any, dtype: str) -> Any:
    """Numbers of a precision from where σ is the smallest normal number to where it has long been 1."""
    lowest = math.log(np.finfo(dtype).tiny)
    ends = [lowest, -40.0, -17.0, -1e-9, -0.0, 1e-9, 0.5, 16.0, 17.0, 36.7, 40.0, 41.0, 90.0, 800.0]
    numbers = np.concatenate([np.linspace(lowest, 50.0, 997), np.linspace(-3.0, 3.0, 101), ends])
    return xp.asarray(numbers.astype(dtype))


@pytest.mark.parametrize("xp", [np, torch])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_sigmoid_is_right_to_its_last_places_everywhere(xp: Any, dtype: str) -> None:
    x = points(xp, dtype)
    for number, found in zip(x.tolist(), sigmoid(x, xp).tolist(), strict=True):
        expected = exact_sigmoid(number)
        assert abs(Decimal(found) - expected) <= expected * Decimal(3 * float(np.finfo(dtype).eps)), number


@pytest.mark.parametrize("xp", [np, torch])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_sigmoid_never_overflows(xp: Any, dtype: str) -> None:
    x = xp.asarray(np.array([-np.inf, -1e30, -1e4, 1e4, 1e30, np.inf], dtype=dtype))
    assert sigmoid(x, xp).tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_sigmoid_has_the_gradient_of_the_sigmoid_everywhere(dtype: str) -> None:
    x, eps = points(torch, dtype).requires_grad_(), float(np.finfo(dtype).eps)
    (found,) = torch.autograd.grad(sigmoid(x, torch).sum(), x)
    expected = np.array([float(exact_sigmoid(number) * exact_sigmoid(-number)) for number in x.tolist()])
    error = np.abs(found.numpy() - expected)
    assert error.max() <= 2 * eps
    closed = x.detach().numpy() < -1.0  # gates that are almost shut: not only the rounding of 1
    assert (error[closed] <= 4 * eps * expected[closed]).all()


@pytest.mark.parametrize("cell", CELLS)
def test_cells_saturated_gates_stay_finite(cell: str) -> None:
    from_input, from_hidden, state, weight_ch = random_step(SUBJECTS[cell])
    after, gates = CELLS[cell].step(from_input * 1e6, from_hidden * 1e6, state, weight_ch, np)
    assert all(np.isfinite(array).all() for array in (*after, *gates))
