"""A disk that is full or broken costs one sentence: the last good checkpoint stays, and nothing is rotated out.

Also a kill between any two calls, and in the middle of any write.
"""

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from charlstm import runs
from charlstm.errors import InputOutputError, RunError
from charlstm.files import remove
from charlstm.runs.checkpoints import checkpoint_names, read_checkpoint_named
from charlstm.settings import Settings, TrainingSettings

from ..disk_calls import DiskCalls, Killed, failing
from ..forks import Forks, Strace
from ..runs.saved import MODEL, SETTINGS, TEXT, VOCAB, B, holds, leftovers, row, save, step_of
from ..small_runs import contents, end_of, refuse_damage, resume, start, train
from .test_kills import NEEDS_STRACE, changes_in

STEPS = 4
FAULTS: dict[str, dict[str, Any]] = {
    "ENOSPC once": {"error": errno.ENOSPC},
    "ENOSPC from then on": {"error": errno.ENOSPC, "lasting": True},
    "EIO once": {"error": errno.EIO},
    "EIO from then on": {"error": errno.EIO, "lasting": True},
    "killed": {"error": Killed, "lasting": True},
}
every_fault = pytest.mark.parametrize(
    "fault", [pytest.param(how, id=name, marks=[pytest.mark.long] * ("EIO" in name)) for name, how in FAULTS.items()]
)


def each_fault(
    folder: Path, fault: dict[str, Any], act: Callable[[], object], *, stride: int = 1
) -> Iterator[BaseException | None]:
    """Do something with one after the other of the calls failing that change the disk, until none does.

    Yields what was raised after each.
    """
    for at in itertools.count(1 + stride // 2, stride):
        calls = DiskCalls(folder, at=at, **fault)
        raised: BaseException | None = None
        with failing(calls):
            try:
                act()
            except (Killed, InputOutputError) as one:
                raised = one
        if not calls.refused:
            assert raised is None
            return
        if isinstance(raised, InputOutputError):
            refuse_other(raised, fault["error"])
        yield raised


def refuse_other(failure: InputOutputError, error: int) -> None:
    """Fail unless it is one sentence about this error."""
    assert os.strerror(error) in str(failure)
    assert "\n" not in str(failure)


def copy_of(original: runs.Run, folder: Path) -> runs.Run:
    """A fresh copy of a run, whatever is there; a folder that is there stays the same."""
    for path in folder.glob("*"):
        remove(path)
    shutil.copytree(original.folder, folder, dirs_exist_ok=True)
    return runs.open_run(folder)


def whole_steps(run: runs.Run) -> set[int]:
    """The steps of all the run's checkpoints, each of which must be whole."""
    found = {int(name.removeprefix("step-")): read_checkpoint_named(run, name) for name in checkpoint_names(run)}
    assert all(holds(checkpoint, step) for step, checkpoint in found.items())
    return set(found)


@pytest.fixture
def original(tmp_path: Path) -> runs.Run:
    """A run whose best is older than its two newest checkpoints: one more save has something to rotate out."""
    run = runs.create_run(tmp_path / "original", SETTINGS, VOCAB, TEXT, name="unused")
    for step in (11, 12, 13):
        save(run, step, is_best=step == 11)
    return run


@every_fault
@pytest.mark.parametrize("is_best", [False, True], ids=["latest", "best"])
def test_faults_at_every_call_of_a_save_harm_nothing(
    original: runs.Run, tmp_path: Path, tell: Callable[[str], None], fault: dict[str, Any], is_best: bool
) -> None:
    copy = copy_of(original, tmp_path / "copy")
    keep = contents(copy.folder)
    count = 0
    for raised in each_fault(copy.folder, fault, lambda: save(copy, 14, is_best=is_best)):
        count += 1
        assert raised is not None, f"failure {count} and nothing was said"
        now = contents(copy.folder)
        if step_of(copy, "latest") == 13:  # nothing was rotated out
            assert {name: now.get(name) for name in keep} == keep
        for _ in range(2):
            assert step_of(copy, "latest") in (13, 14)
            assert step_of(copy, "best") in (11, 14)
            assert whole_steps(copy) >= {13, step_of(copy, "latest"), step_of(copy, "best")}
            with runs.only_writer(copy):  # the next start
                assert leftovers(copy) == []
        save(copy, 15)
        assert step_of(copy, "latest") == 15
        assert leftovers(copy) == []
        copy_of(original, copy.folder)
    assert count > 15
    assert (step_of(copy, "latest"), step_of(copy, "best")) == (14, 14 if is_best else 11)
    tell(f"{count} faults injected into a save, 0 checkpoints lost")


@every_fault
def test_faults_of_a_save_of_a_run_that_went_back(original: runs.Run, tmp_path: Path, fault: dict[str, Any]) -> None:
    """The best checkpoint is of a step that is trained anew."""
    save(original, 13, is_best=True)
    (original.folder / "latest").write_text("step-00000012\n")
    copy = copy_of(original, tmp_path / "copy")
    for _ in each_fault(copy.folder, fault, lambda: save(copy, 13, take=2)):
        assert step_of(copy, "latest") in (12, 13)
        with runs.only_writer(copy):
            assert leftovers(copy) == []
        assert step_of(copy, "latest") in (12, 13)
        assert whole_steps(copy) == {12, 13}
        with suppress(RunError):  # the one it was has been replaced, and the pointer still means that one
            assert step_of(copy, "best") == 13
        save(copy, 13, take=3)
        assert step_of(copy, "latest") == step_of(copy, "best") == 13
        copy_of(original, copy.folder)
    assert step_of(copy, "latest") == step_of(copy, "best") == 13


@every_fault
def test_faults_of_saves_leave_a_run_that_is_read_without_a_new_start(tmp_path: Path, fault: dict[str, Any]) -> None:
    run = runs.create_run(tmp_path / "run", SETTINGS, VOCAB, TEXT, name="unused")
    save(run, 1, is_best=True)
    step = 1

    def next_save() -> None:
        save(run, step + 1, is_best=step % 2 == 0)

    for _ in each_fault(run.folder, fault, next_save):
        assert step_of(run, "latest") in range(1, step + 2)
        assert step_of(run, "best") in range(1, step + 2)
        step += 1
    assert step_of(run, "latest") == step + 1


@every_fault
def test_faults_of_other_writes_leave_the_old_or_the_new(tmp_path: Path, fault: dict[str, Any]) -> None:
    run = runs.create_run(tmp_path / "run", SETTINGS, VOCAB, TEXT, name="unused")
    path = run.folder / "metrics.jsonl"
    lines, cut = (b"".join(msgspec.json.encode(row(step)) + b"\n" for step in range(1, end)) for end in (5, 3))
    longer = Settings(model=MODEL, training=TrainingSettings(batch_size=B, max_steps=99))
    path.write_bytes(lines)
    for _ in each_fault(run.folder, fault, lambda: runs.cut_metrics(run.folder, 2)):
        assert path.read_bytes() in (lines, cut)
        path.write_bytes(lines)
    for _ in each_fault(run.folder, fault, lambda: runs.rewrite_settings(run, longer)):
        assert runs.open_run(run.folder).settings in (SETTINGS, longer)
        runs.rewrite_settings(run, SETTINGS)


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.long), 20], ids=["long", "quick"])
@pytest.mark.parametrize("fault", [how for how in FAULTS.values() if how["error"] is not Killed], ids=[*FAULTS][:4])
def test_faults_in_a_training_run_are_made_up_for(
    tmp_path: Path, tell: Callable[[str], None], fault: dict[str, Any], stride: int
) -> None:
    """Training goes on where it can; where it cannot, it says so once, and a resume ends with the same bits."""
    expected = end_of(train(tmp_path, "whole", steps=STEPS))
    folder = tmp_path / "run"
    injected = went_on = 0
    for raised in each_fault(folder, fault, lambda: start(tmp_path, folder), stride=stride):
        injected += 1
        went_on += raised is None
        if raised is not None and folder.exists() and refuse_damage(folder):
            resume(folder)
        elif raised is not None:
            shutil.rmtree(folder, ignore_errors=True)
            start(tmp_path, folder)
        assert end_of(folder) == expected, f"after fault {injected}"
        shutil.rmtree(folder)
    assert injected > 100 / stride
    # but for the beginning and the end, training outlives a fault; one that lasts is told in the end
    assert went_on == 0 if fault.get("lasting") else went_on > injected / 3
    tell(f"{injected} faults injected into a training run, {went_on} went on by themselves")


@NEEDS_STRACE
@pytest.mark.long
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_faults_of_real_system_calls_are_made_up_for(
    tmp_path: Path, forks: Forks, tell: Callable[[str], None], error: str
) -> None:
    expected = end_of(train(tmp_path, "whole", steps=STEPS))
    folder, log = tmp_path / "run", tmp_path / "strace.log"
    command = ["train", str(tmp_path / "small.yaml"), "--run", str(folder), "--quiet"]
    end = forks.run(command, cwd=tmp_path, strace=Strace(("-f", "-e", "trace=file,desc"), log))
    assert end.code == 0, end.err
    points = [(name, when) for name, when in changes_in(log) if name not in ("flock", "exit_group")]
    injected = went_on = 0
    for name, when in points:
        shutil.rmtree(folder, ignore_errors=True)
        inject = ("-f", "-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={when}")
        end = forks.run(command, cwd=tmp_path, strace=Strace(inject, log))
        injected += "INJECTED" in log.read_text()
        went_on += end.code == 0
        if end.code:
            assert end.code == InputOutputError.exit_code, end
            assert end.err.count("\n") == 1, end.err
            begun = folder.exists() and refuse_damage(folder)
            if not begun:
                shutil.rmtree(folder, ignore_errors=True)
            again = ["train", "--resume", str(folder)] if begun else command
            end = forks.run(again, cwd=tmp_path)
            assert end.code == 0, end.err
        assert end_of(folder) == expected, (name, when)
    tell(f"{injected} system calls of a training run made to fail ({error}), {went_on} runs went on by themselves")


def test_faults_are_seen_where_they_are_injected(tmp_path: Path, original: runs.Run) -> None:
    """The injector itself: it reaches every kind of call that the writer makes, and half a write is half a file."""
    calls = DiskCalls(tmp_path, at=3, error=errno.ENOSPC)
    with failing(calls):
        (tmp_path / "folder").mkdir()  # 1
        file = (tmp_path / "folder" / "file").open("wb")  # 2
        with pytest.raises(OSError, match="No space"):
            file.write(b"12345678")  # 3
        file.close()
    assert (tmp_path / "folder" / "file").read_bytes() == b"1234"
    assert (calls.made, calls.refused) == (3, 1)
    with failing(calls := DiskCalls(original.folder, at=10**9, error=errno.EIO)):
        save(original, 14)
    assert calls.made > 20
