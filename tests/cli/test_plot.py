"""`charlstm plot`: curves from metrics.jsonl, as characters and as a picture."""

import json
import math
import sys

import pytest
from typer.testing import CliRunner

from charlstm.analysis.curves import read_curve
from charlstm.cli import app
from charlstm.errors import RunError

LINES = [
    {"step": step, "chars": step * 100, "seconds": step / 7, "bits_per_char": 6 / step}
    | ({"val_bits_per_char": 7 / step} if step % 2 == 0 else {})
    for step in range(1, 9)
]


def make_run(folder, lines=LINES, *, tail=""):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    return folder


def call(*arguments, **options):
    return CliRunner().invoke(app, ["plot", *map(str, arguments)], **options)


def test_curves_are_the_lines_that_have_both_numbers(tmp_path):
    curve = read_curve(make_run(tmp_path / "one", [{"run": "header"}, *LINES, {"step": 9, "bits_per_char": math.nan}]))
    assert curve.name == "one"
    assert curve.series("train", by="step") == ([*range(1, 9)], [6 / step for step in range(1, 9)])
    assert curve.series("val", by="chars") == ([200, 400, 600, 800], [7 / step for step in (2, 4, 6, 8)])


def test_curves_leave_out_a_last_line_cut_short(tmp_path):
    whole, cut = make_run(tmp_path / "whole"), make_run(tmp_path / "cut", tail='{"step": 9, "cha')
    assert read_curve(cut).lines == read_curve(whole).lines


@pytest.mark.parametrize(
    ("tail", "sentence"), [("{no}\n{}\n", r"metrics.jsonl:9 is not JSON"), ("\xff\n\n", r"metrics.jsonl:9 is not JSON")]
)
def test_curves_name_a_damaged_line(tmp_path, tail, sentence):
    with pytest.raises(RunError, match=sentence):
        read_curve(make_run(tmp_path / "one", tail=tail))


def test_curves_refuse_a_folder_without_any(tmp_path):
    with pytest.raises(RunError, match="cannot be read"):
        read_curve(tmp_path)
    with pytest.raises(RunError, match="no logged step yet"):
        read_curve(make_run(tmp_path / "new", []))


def test_plot_draws_in_a_pipe_without_control_characters(tmp_path):
    pytest.importorskip("plotext")
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two", LINES[:5])
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


def test_plot_saves_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    result = call(make_run(tmp_path / "one$a$b"), "--png", tmp_path / "curves.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert result.stdout == ""


@pytest.mark.parametrize(("module", "arguments"), [("plotext", []), ("matplotlib", ["--png", "x.png"])])
def test_plot_names_the_extra_that_is_missing(tmp_path, monkeypatch, module, arguments):
    monkeypatch.setitem(sys.modules, module, None)
    result = call(make_run(tmp_path / "one"), *arguments)
    assert result.exit_code == 2
    assert f"needs {module}, which is not installed: pip install 'charlstm[plot]'" in result.stderr


def test_plot_refuses_what_is_no_run_in_one_sentence(tmp_path):
    result = call(tmp_path)
    assert (result.exit_code, result.stderr.count("\n"), result.stdout) == (4, 1, "")
