"""A disk that is full or broken costs one sentence: the last good checkpoint stays, and nothing is rotated out."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlstm.errors import InputOutputError
from charlstm.runs import checkpoints
from charlstm.runs import folder as runs

from ..disk_calls import DiskCalls, failing
from ..forks import Forks, Strace
from ..small_runs import bits, contents, end_of, left_overs, refuse_damage, resume, start, train, write_settings
from .test_kills import NEEDS_STRACE, changes_in

ERRORS = (errno.ENOSPC, errno.EIO)
STEPS = 4


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    """A run whose best is older than its two newest checkpoints: one more save has something to rotate out."""
    folder = train(tmp_path, steps=STEPS, validate=STEPS)
    run = runs.open_run(folder)
    with runs.only_writer(run):
        save(run, STEPS + 1)
        save(run, STEPS + 2)
    assert checkpoints.checkpoint_names(run) == ["step-00000004", "step-00000005", "step-00000006"]
    return run


def save(run: runs.Run, step: int, *, is_best: bool = False) -> None:
    """Save the latest state once more, as that of another step."""
    latest = checkpoints.read_checkpoint(run, "latest")
    weights = {name: array + np.float32(step) for name, array in latest.weights.items()}
    progress = {**latest.progress, "step": step}
    checkpoints.save_checkpoint(
        run, step=step, weights=weights, training=latest.training, progress=progress, is_best=is_best
    )


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])
@pytest.mark.parametrize("is_best", [False, True], ids=["latest", "best"])
def test_faults_at_every_call_of_a_save_harm_nothing(
    run: runs.Run, tell: Callable[[str], None], error: int, lasting: bool, is_best: bool
) -> None:
    before = {which: bits(checkpoints.read_checkpoint(run, which)) for which in ("latest", "best")}
    keep = contents(run.folder)
    at, refused = 0, 0
    while True:
        at += 1
        with runs.only_writer(run):  # what the last failure left is cleared
            calls = DiskCalls(run.folder, at=at, error=error, lasting=lasting)
            failure = None
            with failing(calls):
                try:
                    save(run, STEPS + 3, is_best=is_best)
                except InputOutputError as one:
                    failure = one
        if not calls.refused:
            break
        refused += 1
        assert failure is not None, f"call {at} failed and nothing was said"
        refuse_other(failure, error)
        now = contents(run.folder)
        saved = (run.folder / "latest").read_bytes().startswith(b"step-00000007")
        for which in ("latest", "best"):
            found = bits(checkpoints.read_checkpoint(run, which))
            assert found == before[which] or found[0] == "step-00000007"
        if not saved:  # nothing was rotated out
            assert {name: now.get(name) for name in keep} == keep
        if saved:  # start the next round from the same folder
            break_off(run, keep)
    assert checkpoints.read_checkpoint(run, "latest").name == "step-00000007"
    assert left_overs(run.folder) == []
    assert refused > 15
    tell(f"{refused} faults injected into a save ({errno.errorcode[error]}), 0 checkpoints lost")


def refuse_other(failure: InputOutputError, error: int) -> None:
    """Fail unless it is one sentence about this error."""
    assert os.strerror(error) in str(failure)
    assert "\n" not in str(failure)


def break_off(run: runs.Run, keep: dict[str, str]) -> None:
    """Undo a save that failed after its pointers stood, from a copy of what was there before."""
    copy = run.folder.with_name("copy")
    assert contents(copy) == keep
    shutil.rmtree(run.folder)
    shutil.copytree(copy, run.folder)


@pytest.fixture(autouse=True)
def copy(request: pytest.FixtureRequest) -> None:
    if "run" in request.fixturenames:
        folder = request.getfixturevalue("run").folder
        shutil.copytree(folder, folder.with_name("copy"))


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.long), 12], ids=["long", "quick"])
def test_faults_once_in_a_training_are_made_up_for(
    tmp_path: Path, tell: Callable[[str], None], error: int, share: int
) -> None:
    """A training goes on where it can; where it cannot, it says so once, and a resume ends with the same bits."""
    expected = end_of(train(tmp_path, "whole", steps=STEPS))
    folder = tmp_path / "run"
    injected = went_on = 0
    at = share // 2 + 1
    while True:
        calls = DiskCalls(folder, at=at, error=error)
        try:
            with failing(calls):
                start(tmp_path, folder)
            went_on += calls.refused
        except InputOutputError as failure:
            refuse_other(failure, error)
            if folder.exists() and refuse_damage(folder):
                resume(folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
                start(tmp_path, folder)
        assert end_of(folder) == expected, f"after the fault at call {at}"
        shutil.rmtree(folder)
        if not calls.refused:
            break
        injected += 1
        at += share
    assert injected > 100 / share
    assert went_on > injected / 3  # but for the beginning and the end, a training outlives a fault
    tell(f"{injected} faults injected into a training ({errno.errorcode[error]}), {went_on} went on by themselves")


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.long), 40], ids=["long", "quick"])
def test_faults_from_any_call_on_leave_a_run_that_resumes(
    tmp_path: Path, tell: Callable[[str], None], error: int, share: int
) -> None:
    """As on a disk that is full from then on."""
    expected = end_of(train(tmp_path, "whole", steps=STEPS))
    folder = tmp_path / "run"
    injected = 0
    at = share // 2 + 1
    while True:
        calls = DiskCalls(folder, at=at, error=error, lasting=True)
        with failing(calls):
            try:
                start(tmp_path, folder)
            except InputOutputError as failure:
                refuse_other(failure, error)
            else:
                assert not calls.refused, f"call {at} and all after it failed and nothing was said"
        if not calls.refused:
            break
        injected += 1
        if (folder / "latest").exists():
            assert refuse_damage(folder)
            resume(folder)
            assert end_of(folder) == expected, f"after the faults from call {at} on"
        shutil.rmtree(folder, ignore_errors=True)
        at += share
    tell(f"{injected} beginnings of a lasting fault ({errno.errorcode[error]}), all resumed to the same bits")


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
    tell(f"{injected} system calls of a training made to fail ({error}), {went_on} trainings went on by themselves")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk of 200 kB may be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_faults_a_real_disk_that_fills_up_and_is_cleared(tmp_path: Path, small_disk: Path, forks: Forks) -> None:
    """The training goes on while the disk is full, ends with one sentence if it still is, and then resumes."""
    write_settings(tmp_path, steps=STEPS)
    folder, ballast = small_disk / "run", small_disk / "ballast"
    half = ["train", str(tmp_path / "small.yaml"), "--run", str(folder), "--set", "training.max_steps=1"]
    assert forks.run(half, cwd=tmp_path).code == 0
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    before = contents(folder)
    resume = ["train", "--resume", str(folder), "--set", f"training.max_steps={STEPS}"]
    end = forks.run(resume, cwd=tmp_path)
    assert end.code == InputOutputError.exit_code
    assert end.out == ""
    assert "No space left" in end.err.splitlines()[-1]
    assert {name: contents(folder).get(name) for name in before} == before
    ballast.unlink()
    assert forks.run(resume, cwd=tmp_path).code == 0
    roomy = tmp_path / "roomy"
    assert forks.run([str(roomy) if part == str(folder) else part for part in half], cwd=tmp_path).code == 0
    assert forks.run([str(roomy) if part == str(folder) else part for part in resume], cwd=tmp_path).code == 0
    assert end_of(folder) == end_of(roomy)


@pytest.mark.parametrize("kilobytes", [0, 12, 24, 40, 80])
def test_faults_a_disk_too_small_for_the_beginning_leaves_nothing(
    tmp_path: Path, small_disk: Path, forks: Forks, kilobytes: int
) -> None:
    config = write_settings(tmp_path)
    subprocess.run(["mount", "-o", f"remount,size={max(kilobytes, 4)}k", small_disk], check=True)
    if kilobytes == 0:
        (small_disk / "ballast").write_bytes(bytes(4096))
    end = forks.run(["train", str(config), "--run", str(small_disk / "run")], cwd=tmp_path)
    if kilobytes < 40:
        assert end.code == InputOutputError.exit_code, end
        assert (end.out, end.err.count("\n")) == ("", 1)
        assert not (small_disk / "run").exists()
    elif end.code == 0:
        refuse_damage(small_disk / "run")
    else:
        assert end.code == InputOutputError.exit_code, end
        assert refuse_damage(small_disk / "run")


def test_faults_a_folder_that_may_not_be_written(tmp_path: Path, forks: Forks) -> None:
    """Made read-only for root too, by mounting it so."""
    folder = train(tmp_path, steps=2)
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "runs").mkdir()
    if os.getuid() == 0:
        for step in (["--bind", locked, locked], ["-o", "remount,bind,ro", locked]):
            if subprocess.run(["mount", *step], capture_output=True).returncode:
                pytest.skip("root may write everywhere, and nothing may be mounted here")
    else:
        locked.chmod(0o500)
    try:
        end = forks.run(["train", str(tmp_path / "small.yaml"), "--run", str(locked / "runs" / "new")], cwd=tmp_path)
        assert (end.code, end.out, end.err.count("\n")) == (InputOutputError.exit_code, "", 1)
        assert "Traceback" not in end.err
    finally:
        if os.getuid() == 0:
            subprocess.run(["umount", "-l", locked], check=True)
    assert refuse_damage(folder)


def test_faults_a_read_only_run_is_read_and_not_resumed(tmp_path: Path, forks: Forks) -> None:
    folder = train(tmp_path, steps=2)
    before = contents(folder)
    if os.getuid() != 0:
        for path in (folder, folder / "checkpoints"):
            path.chmod(0o500)
    elif any(
        subprocess.run(["mount", *step], capture_output=True).returncode
        for step in (["--bind", folder, folder], ["-o", "remount,bind,ro", folder])
    ):
        pytest.skip("root may write everywhere, and nothing may be mounted here")
    try:
        end = forks.run(["sample", "--run", str(folder), "--length", "5", "--seed", "1"], cwd=tmp_path)
        assert (end.code, len(end.out)) == (0, 6)
        end = forks.run(["train", "--resume", str(folder), "--set", "training.max_steps=4"], cwd=tmp_path)
        assert (end.code, end.out) == (InputOutputError.exit_code, "")
        assert "Traceback" not in end.err
        assert contents(folder) == before
    finally:
        if os.getuid() == 0:
            subprocess.run(["umount", "-l", folder], check=True)
        else:
            for path in (folder, folder / "checkpoints"):
                path.chmod(0o700)


def test_faults_a_run_folder_that_is_removed_in_mid_run(tmp_path: Path) -> None:
    """What it cannot save it says at each save, trains on to its end, and ends with one sentence and its code."""
    config = write_settings(tmp_path, steps=200, validate=1000, save=5)
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "charlstm", "train", str(config), "--run", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = [process.stderr.readline()]  # the first checkpoint stands
    while folder.exists():  # the training may be writing into it
        shutil.rmtree(folder, ignore_errors=True)
    said += process.communicate()[1].splitlines()
    assert process.returncode == InputOutputError.exit_code
    assert any("training goes on" in line for line in said)
    assert said[-1].startswith("charlstm: could not write")
    assert "Traceback" not in "".join(said)
    assert not folder.exists()


def test_faults_a_file_that_may_not_grow_beyond_a_limit(tmp_path: Path) -> None:
    """As under a quota: the system refuses the write that would make a file longer than `ulimit -f` allows."""
    config = write_settings(tmp_path)
    folder = tmp_path / "run"
    command = f"ulimit -f 4; exec {sys.executable} -m charlstm train {config} --run {folder}"
    end = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (end.returncode, end.stdout, end.stderr.count("\n")) == (InputOutputError.exit_code, "", 1)
    assert "File too large" in end.stderr
    assert not folder.exists()


def test_faults_are_seen_where_they_are_injected(tmp_path: Path) -> None:
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
    some: dict[str, Any] = {"at": 10**9, "error": errno.EIO}
    run = train(tmp_path, steps=1)
    opened = runs.open_run(run)
    with failing(calls := DiskCalls(run, **some)):
        save(opened, 2)
    assert calls.made > 20
