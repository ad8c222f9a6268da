"""Run folders are written by one process at a time, which clears what a killed one left."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from charlstm.errors import CharLSTMError, InputOutputError, RunError
from charlstm.files import UNFINISHED
from charlstm.runs import (
    Run,
    append_metrics,
    only_writer,
    open_run,
    rewrite_settings,
)
from charlstm.runs.writing import is_being_written

from .saved import SETTINGS, leftovers, row, save, step_of


def test_runs_have_one_writer(run: Run) -> None:
    with only_writer(run):
        with pytest.raises(RunError, match="another process"), only_writer(open_run(run.folder)):
            pass
        program = (
            "import sys; from pathlib import Path; from charlstm import runs\n"
            "with runs.only_writer(runs.open_run(Path(sys.argv[1]))): pass"
        )
        second = subprocess.run(
            [sys.executable, "-c", program, str(run.folder.absolute())],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        assert "RunError" in second.stderr
        save(run, 1)  # the first is not disturbed
    with only_writer(run):
        pass


def test_runs_are_written_though_a_reader_asks_at_that_moment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = os.open(run.folder, os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)  # as is_being_written does
    monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(reader, fcntl.LOCK_UN))
    with only_writer(run):
        assert is_being_written(run)
    os.close(reader)
    assert not is_being_written(run)


def test_runs_writer_clears_what_a_killed_one_left(run: Run) -> None:
    save(run, 3)
    (run.checkpoints / f"{UNFINISHED}step-00000004").mkdir()
    (run.checkpoints / f"{UNFINISHED}step-00000004" / "model.safetensors").write_bytes(b"half")
    (run.checkpoints / f"{UNFINISHED}removed-step-00000001").mkdir()
    (run.folder / f"{UNFINISHED}latest").write_text("st")
    with only_writer(run):
        assert leftovers(run) == []
        assert step_of(run, "latest") == 3


def test_runs_in_a_folder_that_is_gone_fail_in_one_sentence(run: Run) -> None:
    shutil.rmtree(run.folder)
    for act in (
        lambda: save(run, 3),
        lambda: append_metrics(run.folder, row(1)),
        lambda: rewrite_settings(run, SETTINGS),
    ):
        with pytest.raises(InputOutputError, match=r"could not write .*small") as caught:
            act()
        assert "\n" not in str(caught.value)
    with pytest.raises(CharLSTMError), only_writer(run):
        pass
