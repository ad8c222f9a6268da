"""A unit is chosen for its correlation on one half of the text and judged on the other."""

import numpy as np
import pytest

from charlstm.analysis.correlated_units import find_correlated_units


def square_wave(length, *, period, seed):
    rng = np.random.default_rng(seed)
    steps = rng.integers(period // 2, period * 2, size=length)
    return np.repeat(np.arange(length) % 2, steps)[:length].astype(np.float32)


def test_correlated_unit_is_found_with_its_sign():
    rng = np.random.default_rng(5)
    feature = square_wave(2000, period=20, seed=6)
    memory = rng.standard_normal((2000, 2, 50)).astype(np.float32)
    memory[:, 1, 17] -= 3 * feature
    (best,) = find_correlated_units(memory, {"a feature": feature})
    assert (best.feature, best.layer, best.unit) == ("a feature", 1, 17)
    expected = np.corrcoef(memory[1000:, 1, 17], feature[1000:])[0, 1]
    assert best.r_held_out == pytest.approx(expected, abs=1e-5)
    assert best.r_found == pytest.approx(np.corrcoef(memory[:1000, 1, 17], feature[:1000])[0, 1], abs=1e-5)
    assert best.agreement > 0.7 > 0.3 > best.r_chance
    assert best.beyond_chance


def test_correlated_units_are_not_found_among_a_thousand_unrelated_ones():
    rng = np.random.default_rng(7)
    # slow units against slow features: on one half the best of a thousand correlates well by luck alone
    memory = np.cumsum(rng.standard_normal((3000, 1, 1000)), axis=0).astype(np.float32)
    features = {str(seed): square_wave(3000, period=200, seed=seed) for seed in range(20)}
    found = find_correlated_units(memory, features)
    assert np.mean([abs(unit.r_found) for unit in found]) > 0.4
    assert np.mean([unit.agreement for unit in found]) < 0.15
    assert sum(unit.beyond_chance for unit in found) <= 3
    assert [unit.agreement for unit in found] == sorted([unit.agreement for unit in found], reverse=True)


def test_correlated_units_leave_out_features_constant_in_one_half():
    memory = np.random.default_rng(8).standard_normal((100, 1, 3)).astype(np.float32)
    late = (np.arange(100) > 60).astype(np.float32)
    assert find_correlated_units(memory, {"never": np.zeros(100, np.float32), "late": late}) == []
    assert find_correlated_units(memory[:1], {"short": late[:1]}) == []


def test_correlated_units_may_be_constant():
    (best,) = find_correlated_units(np.ones((100, 1, 2), np.float32), {"m": square_wave(100, period=6, seed=1)})
    assert (best.r_found, best.r_held_out) == (0.0, 0.0)
