"""Run folders: never overwritten, whole or refused, with the modes that umask says."""

import os
import stat
from pathlib import Path

import pytest

from charlstm.errors import RunError
from charlstm.runs import (
    Run,
    append_metrics,
    create_run,
    cut_metrics,
    find_run,
    mark_newest,
    newest_folder,
    open_run,
)

from .saved import SETTINGS, TEXT, VOCAB, row, save


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


@pytest.mark.parametrize("missing", ["config.yaml", "vocab.json"])
def test_runs_are_only_what_has_settings_and_a_vocabulary(run: Run, missing: str) -> None:
    (run.folder / missing).unlink()
    with pytest.raises(RunError, match=missing.replace(".", r"\.")):
        open_run(run.folder)


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
