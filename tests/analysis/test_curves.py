"""Curves are the logged steps of metrics.jsonl that hold the figures to draw."""

import msgspec
import pytest

from charlstm.analysis import read_curve
from charlstm.errors import RunError
from charlstm.runs import append_metrics

from ..runs.saved import row

ROWS = [
    row(step, chars=step * 100, bits_per_char=6 / step, **({"val_bits_per_char": 7 / step} if step % 2 == 0 else {}))
    for step in range(1, 9)
]


def make_run(folder, rows=ROWS):
    folder.mkdir()
    for one in rows:
        append_metrics(folder, one)
    return folder


def test_curves_are_the_steps_that_logged_both_numbers(tmp_path):
    curve = read_curve(make_run(tmp_path / "one"))
    assert curve.name == "one"
    assert curve.series("train", by="step") == ([*range(1, 9)], [6 / step for step in range(1, 9)])
    assert curve.series("val", by="chars") == ([200, 400, 600, 800], [7 / step for step in (2, 4, 6, 8)])


def test_curves_leave_out_numbers_that_cannot_be_drawn(tmp_path):
    folder = make_run(tmp_path / "one")
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(ROWS[-1]).replace(b'"bits_per_char":0.75', b'"bits_per_char":1e400') + b"\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl:9"):
        read_curve(folder)
    for bits in (b"1e308", b"-3"):
        folder = make_run(tmp_path / bits.decode())
        with (folder / "metrics.jsonl").open("ab") as file:
            row = msgspec.json.encode(ROWS[-1]).replace(b'"bits_per_char":0.75', b'"bits_per_char":' + bits)
            file.write(row + b"\n")
        with pytest.raises(RunError, match="bits that no model has"):
            read_curve(folder)


def test_curves_refuse_a_folder_without_any(tmp_path):
    with pytest.raises(RunError, match="could not read"):
        read_curve(tmp_path)
    with pytest.raises(RunError, match="could not read"):
        read_curve(make_run(tmp_path / "new", []))
    (tmp_path / "new" / "metrics.jsonl").touch()
    with pytest.raises(RunError, match="no logged step yet"):
        read_curve(tmp_path / "new")
