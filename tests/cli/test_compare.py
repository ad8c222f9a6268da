"""`charlstm compare`: both columns, their difference and the verdict."""

import re
from pathlib import Path

import pytest

from charlstm.teaching import compare_with_kernel, draw_example

from .commands import charlstm

WORKED = Path(__file__).parents[2] / "configs" / "worked"


def test_compare_prints_every_number_twice_and_the_largest_difference() -> None:
    options = ["--hidden-size", 2, "--input-size", 3, "--steps", 4, "--seed", 5, "--bidirectional"]
    heading, source, _, columns, *rows, _, verdict = charlstm("compare", "lstm", *options).stdout.splitlines()
    assert heading == "lstm by hand and torch.nn.LSTM: the same weights, 2 units, float64"
    assert source == "drawn from seed 5"
    assert columns.split() == ["step", "state", "by", "hand", "torch.nn.LSTM", "difference"]
    example = draw_example("lstm", hidden_size=2, input_size=3, steps=4, seed=5, bidirectional=True)
    found = compare_with_kernel(example, "lstm")
    numbers = [*found.by_hand["h"].ravel(), *found.by_hand["c"]]
    for row, number in zip(rows, numbers, strict=True):
        *_, hand, kernel, difference = row.split()
        assert hand == f"{number:.12f}"
        assert float(kernel) == pytest.approx(number, abs=1e-12)
        assert float(difference) < 1e-15
    assert [row.split()[0] for row in rows] == [*"1111222233334444", *["last"] * 4]
    states = [re.findall(r"(?:backwards )?[hc]\[\d\]", row) for row in rows]
    assert states[:4] == [["h[1]"], ["h[2]"], ["backwards h[1]"], ["backwards h[2]"]]
    assert verdict == f"largest difference {found.largest_difference:.1e}: they match, to rounding"


def test_compare_takes_worked_examples() -> None:
    for name, cells in (("one-unit", 1), ("long-lag", 2), ("vectors", 1)):
        text = charlstm("compare", WORKED / f"{name}.yaml").stdout
        assert text.count("they match, to rounding") == text.count("largest difference") == cells


def test_compare_says_when_they_do_not_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlstm.teaching.kernel.MATCHES", -1.0)
    assert charlstm("compare", "rnn").stdout.endswith("they do NOT match\n")
