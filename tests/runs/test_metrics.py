"""metrics.jsonl: one row a logged step, cut back to a step, whatever became of its last line."""

import msgspec
import pytest

from charlstm.errors import RunError
from charlstm.runs import Run, append_metrics, cut_metrics, read_metrics
from charlstm.runs import metrics as metrics_module

from .saved import row


def test_metrics_are_cut_back_to_a_step(run: Run) -> None:
    cut_metrics(run.folder, 3)  # there are none yet
    rows = [row(step, val_loss=0.1 * step) if step % 2 else row(step) for step in range(1, 8)]
    for one in rows:
        append_metrics(run.folder, one)
    assert read_metrics(run.folder) == rows
    cut_metrics(run.folder, 5)
    assert read_metrics(run.folder) == rows[:5]
    append_metrics(run.folder, rows[5])
    assert read_metrics(run.folder) == rows[:6]
    cut_metrics(run.folder, 0)
    assert read_metrics(run.folder) == []


TORN = [b'{"step": 3, "lo', msgspec.json.encode(row(3)), b"\xff\xfe", b"[]", b"7", b'{"step": "x"}\n', b"[" * 50_000]


@pytest.mark.parametrize("torn", TORN)
def test_metrics_survive_a_line_that_was_cut_short(run: Run, torn: bytes) -> None:
    for step in (1, 2):
        append_metrics(run.folder, row(step))
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    cut_metrics(run.folder, 3)
    append_metrics(run.folder, row(4))
    complete = [row(3)] if torn == TORN[1] else []
    assert read_metrics(run.folder) == [row(1), row(2), *complete, row(4)]


def test_metrics_with_damage_before_the_last_line_are_refused_by_its_number(run: Run) -> None:
    for step in (1, 2, 3):
        append_metrics(run.folder, row(step))
    path = run.folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step":2', b'"step":x'))
    with pytest.raises(RunError, match=r"metrics\.jsonl:2 "):
        read_metrics(run.folder)
    path.write_bytes(path.read_bytes() + b'{"step": 4')  # still being written
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[::2]) + b'{"step": 4')
    assert [one.step for one in read_metrics(run.folder)] == [1, 3]


def test_metrics_are_read_in_bounded_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "MAX_METRICS_BYTES", 1000)
    with (run.folder / "metrics.jsonl").open("wb") as file:
        file.truncate(1 << 40)  # a hole
    with pytest.raises(RunError, match="longer than the 1,000 bytes"):
        read_metrics(run.folder)


def test_metrics_of_any_length_are_cut_for_a_run_that_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2, 3):
        append_metrics(run.folder, row(step))
    with monkeypatch.context() as few:
        few.setattr(metrics_module, "MAX_METRICS_BYTES", 1)
        assert cut_metrics(run.folder, 2) == []
    assert [row.step for row in read_metrics(run.folder)] == [1, 2]
