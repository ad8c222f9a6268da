"""`charlstm plot` draws curves as characters and as a picture."""

import re

import pytest
from typer.testing import CliRunner

from charlstm.cli import app

from ..analysis.test_curves import ROWS, make_run


def call(*arguments, **options):
    return CliRunner().invoke(app, ["plot", *map(str, arguments)], **options)


def test_plot_draws_in_a_pipe_without_control_characters(tmp_path):
    pytest.importorskip("plotext")
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two", ROWS[:5])
    result = call(one, two, "--by", "step", env={"COLUMNS": "70", "LINES": "24"})
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert {len(line) for line in result.stdout.splitlines()} == {70}
    for words in ("one, training", "one, validation", "two, training", "two, validation", "steps", "bits per char"):
        assert words in result.stdout


def test_plot_takes_the_newest_run_when_none_is_named(tmp_path, monkeypatch):
    pytest.importorskip("plotext")
    monkeypatch.setenv("CHARLSTM_RUN", str(make_run(tmp_path / "newest")))
    assert "newest, training" in call().stdout


def test_plot_without_colour_tells_each_curve_by_its_own_sign(tmp_path):
    pytest.importorskip("plotext")
    told = call(*(make_run(tmp_path / name) for name in ("one", "two", "three"))).stdout
    signs = re.findall(r"(\S\S) (?:one|two|three), (?:training|validation)", told)
    assert len(set(signs)) == len(signs) == 6


def test_plot_saves_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    result = call(make_run(tmp_path / "one$a$b"), "--png", tmp_path / "curves.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert result.stdout == ""
