"""Disks that are full, read-only, limited or gone, as the system has them: one sentence, and no work lost."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from charlstm import runs
from charlstm.errors import InputOutputError

from ..forks import Forks, wait_until
from ..small_runs import contents, end_of, refuse_damage, train, write_settings

STEPS = 4


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


def test_disks_a_real_disk_that_fills_up_and_is_cleared(tmp_path: Path, small_disk: Path, forks: Forks) -> None:
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
def test_disks_a_disk_too_small_for_the_beginning_leaves_nothing(
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


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Within, a folder and those in it may not be written; by a mount where root may write everywhere else."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    if os.getuid() == 0:
        for step in (["--bind", folder, folder], ["-o", "remount,bind,ro", folder]):
            if subprocess.run(["mount", *step], capture_output=True).returncode:
                pytest.skip("root may write everywhere, and nothing may be mounted here")
    else:
        for path in folders:
            path.chmod(0o500)
    yield
    if os.getuid() == 0:
        subprocess.run(["umount", "-l", folder], check=True)
    else:
        for path in folders:
            path.chmod(0o700)


def test_disks_a_read_only_run_is_read_and_neither_resumed_nor_followed_by_another(
    tmp_path: Path, forks: Forks
) -> None:
    folder = train(tmp_path, "runs", steps=2)
    before = contents(folder)
    with read_only(folder):
        end = forks.run(["sample", "--run", str(folder), "--length", "5", "--seed", "1"], cwd=tmp_path)
        assert (end.code, len(end.out)) == (0, 6)
        resume = ["--resume", str(folder), "--set", "training.max_steps=4"]
        for command in (resume, [str(tmp_path / "small.yaml"), "--run", str(folder / "new")]):
            end = forks.run(["train", *command], cwd=tmp_path)
            assert (end.code, end.out) == (InputOutputError.exit_code, "")
            assert "Traceback" not in end.err
        assert end.err.count("\n") == 1
        assert contents(folder) == before


def test_disks_a_run_folder_that_is_removed_in_mid_run(tmp_path: Path, forks: Forks) -> None:
    """What it cannot save it says at each save, trains on to its end, and ends with one sentence and its code."""
    config = write_settings(tmp_path, steps=200, validate=1000, save=5)
    folder = tmp_path / "run"

    def remove(_pid: int) -> None:
        wait_until((folder / "latest").exists)  # the first checkpoint stands
        while folder.exists():  # training may be writing into it
            shutil.rmtree(folder, ignore_errors=True)

    end = forks.run(["train", str(config), "--run", str(folder)], cwd=tmp_path, meanwhile=remove)
    assert end.code == InputOutputError.exit_code
    assert "training goes on" in end.err
    assert end.err.splitlines()[-1].startswith("charlstm: could not write")
    assert "Traceback" not in end.err
    assert not folder.exists()


def test_disks_a_log_of_metrics_that_cannot_be_written_costs_no_checkpoint(tmp_path: Path, forks: Forks) -> None:
    config = write_settings(tmp_path, steps=200, validate=1000, save=5)
    folder = tmp_path / "run"
    metrics = folder / "metrics.jsonl"

    def obstruct(_pid: int) -> None:
        wait_until(metrics.exists)
        while not metrics.is_dir():  # training may be writing it
            metrics.unlink(missing_ok=True)
            with suppress(FileExistsError):
                metrics.mkdir()

    end = forks.run(["train", str(config), "--run", str(folder)], cwd=tmp_path, meanwhile=obstruct)
    assert end.code == InputOutputError.exit_code
    assert "training goes on" in end.err
    assert end.err.splitlines()[-1].startswith(f"charlstm: could not write {metrics}")
    assert runs.read_checkpoint(runs.open_run(folder), "latest").progress.step == 200


def test_disks_a_file_that_may_not_grow_beyond_a_limit(tmp_path: Path, forks: Forks) -> None:
    """As under a quota: the system refuses the write that would make a file longer than `ulimit -f` allows."""
    config = write_settings(tmp_path)
    folder = tmp_path / "run"
    end = forks.run(["train", str(config), "--run", str(folder)], cwd=tmp_path, longest_file_bytes=4096)
    assert (end.code, end.out, end.err.count("\n")) == (InputOutputError.exit_code, "", 1)
    assert "File too large" in end.err
    assert not folder.exists()
