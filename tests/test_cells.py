"""Cells: every law for every cell, by hand and by torch's kernel, and the equations' own corners."""

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from charlstm.cells import CELLS, sigmoid

from .laws import LAWS, PAIRS, SCALAR, SUBJECTS

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def differences(request: pytest.FixtureRequest) -> Iterator[dict[str, list[float]]]:
    """What each law found, shown at the end of the module."""
    found: dict[str, list[float]] = defaultdict(list)
    yield found
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print()
        for name, values in found.items():
            print(f"{name}: {max(values):.1e} at most in {len(values)} cores (allowed {LAWS[name].tolerance:g})")


@pytest.mark.parametrize(("law", "core"), PAIRS)
def test_cells_every_cell_obeys_every_law(law: str, core: str, differences: dict[str, list[float]]) -> None:
    difference = LAWS[law].difference(SUBJECTS[core])
    differences[law].append(difference)
    assert difference <= LAWS[law].tolerance
