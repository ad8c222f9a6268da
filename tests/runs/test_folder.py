"""Run folders: never overwritten, found again, written by one process at a time, with the modes that umask says."""

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec import structs

from charlstm.errors import CharLSTMError, InputOutputError, RunError
from charlstm.files import UNFINISHED
from charlstm.runs import (
    Run,
    append_metrics,
    create_run,
    cut_metrics,
    find_run,
    mark_newest,
    newest_folder,
    only_writer,
    open_run,
    rewrite_settings,
)
from charlstm.runs.folder import is_being_written

from .saved import MODEL, SETTINGS, TEXT, VOCAB, leftovers, row, save, step_of


def test_runs_never_overwrite_and_number_a_taken_name() -> None:
    made = [create_run(None, SETTINGS, VOCAB, TEXT, name="small") for _ in range(3)]
    folders = [one.folder for one in made]
    mark_newest(made[2])
    assert folders == [Path("runs/small"), Path("runs/small-2"), Path("runs/small-3")]
    assert open_run().folder == newest_folder() == find_run() == Path("runs/small-3")


def test_runs_take_a_named_folder_that_is_empty_or_not_there_and_the_newest_is_found(tmp_path: Path) -> None:
    Path("empty").mkdir()
    for folder in (Path("empty"), Path("deep/er"), tmp_path / "far" / "away"):
        run = create_run(folder, SETTINGS, VOCAB, TEXT, name="unused")
        assert run.folder == folder
        mark_newest(run)
        assert open_run().folder.resolve() == folder.resolve()


def test_runs_are_found_by_their_name_and_a_path_comes_first(run: Run) -> None:
    assert open_run(Path("small")).folder == find_run(Path("small")) == run.folder
    assert find_run(Path("runs/small")) == run.folder
    assert find_run(Path("nowhere")) == Path("nowhere")
    beside = create_run(Path("small"), SETTINGS, VOCAB, TEXT, name="unused")
    assert open_run(Path("small")).folder == beside.folder == Path("small")


def test_runs_newest_that_can_do_what_is_needed_is_opened(run: Run) -> None:
    began = (run.folder / "vocab.json").stat().st_mtime
    for number, name in enumerate(("next", "cloze", "damaged"), start=1):
        model = structs.replace(MODEL, bidirectional=name == "cloze", objective="cloze" if name == "cloze" else "next")
        made = create_run(None, structs.replace(SETTINGS, model=model), VOCAB, TEXT, name=name)
        os.utime(made.folder / "vocab.json", (began + number,) * 2)
    Path("runs/damaged/vocab.json").write_text("[")
    Path("runs/foreign").mkdir()
    mark_newest(open_run(Path("runs/cloze")))
    assert open_run().folder == open_run(needs="cloze").folder == Path("runs/cloze")
    assert open_run(needs="next").folder == Path("runs/next")
    with pytest.raises(RunError, match="predicts the next character"):
        open_run(Path("next"), needs="cloze")
    mark_newest(open_run(Path("runs/next")))  # though others were begun later
    assert open_run().folder == Path("runs/next")
    Path("runs/latest").write_text("foreign\n")
    assert open_run().folder == Path("runs/cloze")


def test_runs_none_of_which_can_be_used_leave_the_newest_ones_error(run: Run) -> None:
    mark_newest(run)
    with pytest.raises(RunError, match="runs/small predicts the next character"):
        open_run(needs="cloze")


@pytest.mark.parametrize("missing", ["config.yaml", "vocab.json"])
def test_runs_are_only_what_has_settings_and_a_vocabulary(run: Run, missing: str) -> None:
    (run.folder / missing).unlink()
    with pytest.raises(RunError, match=missing.replace(".", r"\.")):
        open_run(run.folder)


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


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_runs_modes_follow_the_umask(umask: int) -> None:
    before = os.umask(umask)
    try:
        run = create_run(None, SETTINGS, VOCAB, TEXT, name="small")
        save(run, 1, is_best=True)
        append_metrics(run.folder, row(1))
        cut_metrics(run.folder, 1)
    finally:
        os.umask(before)
    for path in [run.folder, *run.folder.rglob("*")]:
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


@pytest.mark.parametrize("name", [" spaces at its ends ", "caf\udce9", "two\nlines"])
def test_newest_run_is_found_whatever_its_name(name: str) -> None:
    run = create_run(Path("runs") / name, SETTINGS, VOCAB, TEXT, name="unused")
    mark_newest(run)
    assert newest_folder() == run.folder
