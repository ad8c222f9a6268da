"""A cell by hand beside torch's kernel: they match for every cell that torch has, and a difference is seen."""

from dataclasses import replace

import pytest

from charlstm.errors import SettingsError
from charlstm.teaching import KERNELS, compare_with_kernel, draw_example

T, X, H = 6, 3, 4


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", KERNELS)
def test_kernel_gives_what_the_equations_give(cell: str, bidirectional: bool) -> None:
    example = draw_example(cell, hidden_size=H, input_size=X, steps=T, seed=2, bidirectional=bidirectional)
    comparison = compare_with_kernel(example, cell)
    assert comparison.matches
    assert comparison.largest_difference < 1e-14
    assert comparison.by_hand["h"].shape == comparison.by_kernel["h"].shape == (T, H * (1 + bidirectional))
    assert ("c" in comparison.by_hand) == ("c" in comparison.by_kernel) == (cell == "lstm")


def test_kernel_of_other_weights_does_not_match() -> None:
    example = draw_example("gru", hidden_size=H, input_size=X, steps=T, seed=2, bidirectional=False)
    weights = dict(example.cells["gru"])
    weights["update.x"] = weights["update.x"] + 1e-9
    found = compare_with_kernel(example, "gru")
    other = compare_with_kernel(replace(example, cells={"gru": weights}), "gru")
    mixed = replace(found, by_kernel=other.by_kernel)
    assert not mixed.matches
    assert 1e-12 < mixed.largest_difference < 1e-8


def test_kernel_of_a_cell_with_peepholes_is_not_in_torch() -> None:
    example = draw_example("peephole", hidden_size=H, input_size=X, steps=T, seed=2, bidirectional=False)
    with pytest.raises(SettingsError, match="torch has no cell with peepholes to compare peephole with: take lstm"):
        compare_with_kernel(example, "peephole")
