"""Curves are the logged steps of metrics.jsonl that hold the figures to draw."""

import json
import math

import pytest

from charlstm.analysis import read_curve
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


def test_curves_are_the_steps_that_logged_both_numbers(tmp_path):
    curve = read_curve(make_run(tmp_path / "one", [{"run": "header"}, *LINES, {"step": 9, "bits_per_char": math.nan}]))
    assert curve.name == "one"
    assert curve.series("train", by="step") == ([*range(1, 9)], [6 / step for step in range(1, 9)])
    assert curve.series("val", by="chars") == ([200, 400, 600, 800], [7 / step for step in (2, 4, 6, 8)])


def test_curves_leave_out_a_last_line_cut_short(tmp_path):
    complete, cut = make_run(tmp_path / "complete"), make_run(tmp_path / "cut", tail='{"step": 9, "cha')
    assert read_curve(cut).rows == read_curve(complete).rows


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
