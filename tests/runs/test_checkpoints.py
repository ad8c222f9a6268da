"""Checkpoints: what is read is what was written, the pointers name the newest and the best, the others are removed."""

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from charlstm.errors import RunError
from charlstm.files import UNFINISHED
from charlstm.runs import Run, open_run
from charlstm.runs.checkpoints import (
    KEPT_LATEST,
    checkpoint_names,
    read_checkpoint,
)

from .saved import FILES, SETTINGS, VOCAB, contents, leftovers, save, step_of, steps_kept


def test_checkpoints_read_back_bit_for_bit_what_was_written(run: Run) -> None:
    save(run, 7, is_best=True)
    opened = open_run(run.folder)
    assert (opened.settings, opened.vocab) == (SETTINGS, VOCAB)
    assert step_of(opened, "latest") == step_of(opened, "best") == 7
    weights_only = read_checkpoint(opened, "best", model_only=True)
    assert weights_only.training == {}
    assert weights_only.weights.keys() == contents(7).weights.keys()


def test_checkpoints_best_is_the_latest_before_the_first_validation(run: Run) -> None:
    save(run, 3)
    assert step_of(run, "best") == 3
    save(run, 5, is_best=True)
    save(run, 6)
    assert (step_of(run, "best"), step_of(run, "latest")) == (5, 6)


def test_checkpoints_without_a_checkpoint_say_so(run: Run) -> None:
    for pointer in ("best", "latest"):
        with pytest.raises(RunError, match="no checkpoint"):
            read_checkpoint(run, pointer)  # type: ignore[arg-type]


def test_checkpoints_manifest_is_the_sha256_and_size_of_each_file(run: Run) -> None:
    folder = save(run, 1)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name, entry in manifest.items():
        data = ((run.folder if name in ("vocab.json", "text.json") else folder) / name).read_bytes()
        assert entry == {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    assert set(manifest) == {*FILES, "vocab.json", "text.json"} - {"manifest.json"}


@pytest.mark.parametrize(
    "name",
    ["../../x", "../step-00000003", "/etc", "", ".", "step-3", "step-0000000x", "step-00000003/..", "step-00000009"],
)
@pytest.mark.parametrize("pointer", ["latest", "best"])
def test_checkpoints_refuse_a_pointer_to_anything_but_a_checkpoint(run: Run, name: str, pointer: str) -> None:
    shutil.copytree(save(run, 3, is_best=True), run.folder.parent / "x")
    (run.folder / pointer).write_text(f"{name}\n")
    refusal = "could not read" if name == "step-00000009" else "which is no checkpoint"
    with pytest.raises(RunError, match=refusal):
        read_checkpoint(run, pointer)  # type: ignore[arg-type]


def test_checkpoints_keep_the_last_ones_and_the_best(run: Run) -> None:
    for step in range(1, 9):
        save(run, step, is_best=step in (1, 3))
        best = 1 if step < 3 else 3
        assert step_of(run, "latest") == step
        assert step_of(run, "best") == best
        assert steps_kept(run) == sorted({best, *range(max(1, step - KEPT_LATEST + 1), step + 1)})
    assert KEPT_LATEST >= 2
    assert leftovers(run) == []


def test_checkpoints_that_went_back_keep_what_they_write_now(run: Run) -> None:
    """A pointer set back by hand, or a fall-back behind damaged checkpoints: what is ahead belongs to another past."""
    for step in (10, 20, 30, 40):
        save(run, step, is_best=step == 30)
    (run.folder / "latest").write_text("step-00000030\n")
    for step in (31, 32, 33):
        save(run, step)
        assert step_of(run, "latest") == step
        assert step_of(run, "best") == 30
        names = steps_kept(run)
        assert set(range(31, step + 1)[-2:]) <= set(names)
    assert 40 not in steps_kept(run)


def test_checkpoints_leave_alone_what_is_not_theirs(run: Run) -> None:
    mine = save(run, 1, is_best=True)
    backup = run.checkpoints / "step-00000001-backup"
    shutil.copytree(mine, backup)
    (run.checkpoints / "step-notes.txt").write_text("mine")
    for step in (2, 3, 4, 5):
        save(run, step)
    assert (backup / "model.safetensors").exists()
    assert (run.checkpoints / "step-notes.txt").read_text() == "mine"
    assert step_of(run, "latest") == 5


def test_checkpoints_flush_every_file_before_the_name_that_shows_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rename comes after the flush of what it renames, and is followed by that of the folder it happened in."""
    events: list[tuple[str, str]] = []
    sync, rename, replace = os.fsync, Path.rename, Path.replace

    def named(handle: int) -> str:
        return os.readlink(f"/proc/self/fd/{handle}")

    monkeypatch.setattr(os, "fsync", lambda handle: (events.append(("flush", named(handle))), sync(handle))[1])
    for name, real in (("rename", rename), ("replace", replace)):

        def moved(path: Path, target: Path, real: Any = real) -> Path:
            events.append(("move", str(path.absolute())))
            return real(path, target)

        monkeypatch.setattr(Path, name, moved)
    save(run, 3, is_best=True)
    unfinished = str(run.checkpoints.absolute() / f"{UNFINISHED}step-00000003")
    flushed = [name for event, name in events if event == "flush"]
    first_move = events.index(("move", unfinished))
    assert {name for _, name in events[:first_move]} == {unfinished, *(f"{unfinished}/{name}" for name in FILES)}
    assert events[first_move + 1] == ("flush", str(run.checkpoints.absolute()))
    for at, (event, name) in enumerate(events):
        if event == "move" and "step" not in name:
            assert events[at - 1] == ("flush", name)
            assert events[at + 1] == ("flush", str(run.folder.absolute()))
    assert len(flushed) == len(FILES) + 2 + 2 * 2
    assert checkpoint_names(run) == ["step-00000003"]
