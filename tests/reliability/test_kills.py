"""Killed at any moment, a run has whole checkpoints, can be resumed, and ends with the same bits as if never killed."""

import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..forks import End, Forks, Strace
from ..small_runs import end_of, left_overs, refuse_damage, train, write_settings

STEPS = 4  # enough that an old checkpoint is removed
CHANGES = ("write", "fsync", "mkdir", "rename", "unlink", "unlinkat", "rmdir", "ftruncate", "flock", "exit_group")
NEEDS_STRACE = pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace here")
KILLED = -signal.SIGKILL
LONGEST_SECONDS = 0.4  # of the life of a process that is killed at random; one training run takes as long


def arguments(folder: Path, run: Path) -> list[str]:
    """The command that starts a run or, if it has begun, goes on with it."""
    if (run / "latest").exists():
        return ["train", "--resume", str(run)]
    shutil.rmtree(run, ignore_errors=True)
    return ["train", str(folder / "small.yaml"), "--run", str(run)]


def survive(folder: Path, run: Path, expected: dict[str, object], finish: Callable[[list[str]], End]) -> bool:
    """After a kill: whole checkpoints, a resume, the same end. False if the kill came before the first checkpoint."""
    had_begun = refuse_damage(run) if (run / "config.yaml").exists() else False
    end = finish(arguments(folder, run))
    assert end.code == 0, end.err
    assert end_of(run) == expected
    assert left_overs(run) == []
    assert left_overs(Path(os.environ["CHARLSTM_CACHE"])) == []
    shutil.rmtree(run)
    return had_begun


def changes_in(log: Path) -> Iterator[tuple[str, int]]:
    """Every system call of a log that changes what is on the disk, by its name and which of that name it is."""
    seen: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        if call is None:
            continue
        name, rest = call.groups()
        seen[name] += 1
        if name in CHANGES or (name == "openat" and "O_CREAT" in rest):
            yield name, seen[name]


def traced(folder: Path, *options: str) -> Strace:
    return Strace(("-f", *options), folder / "strace.log")


def started(run: Path, _folder: Path, _forks: Forks) -> None:
    """Nothing yet: the run that is killed is a new one."""
    shutil.rmtree(run, ignore_errors=True)


def resumed(run: Path, folder: Path, forks: Forks) -> None:
    """The run that is killed is a resumed one."""
    started(run, folder, forks)
    source = folder / "half"
    if not source.exists():
        end = forks.run(
            ["train", str(folder / "small.yaml"), "--run", str(source), "--set", "training.max_steps=2"], cwd=folder
        )
        assert end.code == 0, end.err
    shutil.copytree(source, run)


def uncached(run: Path, folder: Path, forks: Forks) -> None:
    """The run that is killed is a new one, on a text that is not in the cache yet."""
    started(run, folder, forks)
    shutil.rmtree(os.environ["CHARLSTM_CACHE"], ignore_errors=True)


def command(folder: Path, run: Path) -> list[str]:
    return [*arguments(folder, run), *(["--set", f"training.max_steps={STEPS}"] if run.exists() else [])]


@NEEDS_STRACE
@pytest.mark.parametrize("beginning", [uncached, started, resumed])
@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.long), 90], ids=["long", "quick"])
def test_kills_at_every_system_call_that_changes_the_disk(
    tmp_path: Path, forks: Forks, tell: Callable[[str], None], beginning: Callable[..., None], stride: int
) -> None:
    settings = {"steps": STEPS, "validate": 2, "save": 1}
    run = tmp_path / "run"
    # a resumed run goes on with another limit, and its learning rates are those of that limit from there on
    write_settings(tmp_path, **settings)
    assert forks.run(command(tmp_path, run), cwd=tmp_path).code == 0  # from now on the text is in the cache
    shutil.rmtree(run)
    beginning(run, tmp_path, forks)
    watched = traced(tmp_path, "-e", "trace=file,desc,exit_group")
    reference = forks.run(command(tmp_path, run), cwd=tmp_path, strace=watched)
    assert reference.code == 0, reference.err
    expected = end_of(run)
    points = [*changes_in(tmp_path / "strace.log")]
    assert len(points) > 60
    killed = begun = 0
    for name, when in points[(stride - 1) // 2 :: stride]:
        beginning(run, tmp_path, forks)
        inject = ("-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={when}")
        end = forks.run(command(tmp_path, run), cwd=tmp_path, strace=traced(tmp_path, *inject))
        assert end.code in (KILLED, 0), end.err  # 0: it ended by itself before
        killed += end.code == KILLED
        if beginning is resumed:
            begun += refuse_damage(run)
            end = forks.run(["train", "--resume", str(run), "--set", f"training.max_steps={STEPS}"], cwd=tmp_path)
            assert end.code == 0, end.err
            assert end_of(run) == expected, (name, when)
            assert left_overs(run) == []
        else:
            begun += survive(tmp_path, run, expected, lambda again: forks.run(again, cwd=tmp_path))
    tell(f"{killed} kills survived, of {len(points)} system calls ({beginning.__name__}); {begun} had a checkpoint")


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.long), 45], ids=["long", "quick"])
def test_kills_at_every_call_and_in_the_middle_of_every_write(
    tmp_path: Path, forks: Forks, tell: Callable[[str], None], stride: int
) -> None:
    """Without strace: at the n-th call the process kills itself, a write half done."""
    expected = end_of(train(tmp_path, "whole", steps=STEPS))
    run = tmp_path / "run"
    killed, at = 0, 1 + (stride - 1) // 2
    while True:
        faults = {"root": str(tmp_path), "at": at, "error": None}
        end = forks.run(arguments(tmp_path, run), cwd=tmp_path, disk_calls=faults)
        assert end.code in (KILLED, 0), end.err
        survive(tmp_path, run, expected, lambda again: forks.run(again, cwd=tmp_path))
        if end.code == 0:
            break
        killed += 1
        at += stride
    assert killed > 100 / stride
    tell(f"{killed} kills survived")


@pytest.mark.parametrize("kills", [pytest.param(200, marks=pytest.mark.long), 3], ids=["long", "quick"])
def test_kills_at_random_moments(tmp_path: Path, forks: Forks, tell: Callable[[str], None], kills: int) -> None:
    """Chains of kills: each resumed run is killed again, until one comes to its end by itself."""
    steps = 30
    expected = end_of(train(tmp_path, "whole", steps=steps, validate=3))
    run = tmp_path / "run"
    draw = random.Random(kills)
    killed = chains = begun = 0

    def kill(pid: int) -> None:
        if killed < kills:
            time.sleep(draw.uniform(0, LONGEST_SECONDS))
            os.kill(pid, signal.SIGKILL)

    while killed < kills or not chains or run.exists():
        end = forks.run(arguments(tmp_path, run), cwd=tmp_path, meanwhile=kill)
        if end.code == KILLED:
            killed += 1
            begun += refuse_damage(run) if (run / "config.yaml").exists() else False
        else:
            assert end.code == 0, end.err
            assert end_of(run) == expected
            assert left_overs(run) == []
            shutil.rmtree(run)
            chains += 1
    tell(f"{killed} kills survived in {chains} training runs, {begun} had a checkpoint")
