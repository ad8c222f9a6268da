"""Training in several processes, any of which is killed at any moment, loses nothing; nor does one that is stopped."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ..forks import Forks, wait_until
from ..small_runs import end_of, left_overs, refuse_damage, train, write_settings

STEPS = 30
SHARDS = ("training.shards=3", "training.batch_size=6", "training.sequence_length=4")
LONGEST_SECONDS = 1.5


def command(run: Path, processes: int) -> list[str]:
    """Begin the run, or go on with it once it has a checkpoint."""
    if (run / "latest").exists():
        return ["train", "--resume", str(run), "--processes", str(processes), "-q"]
    shutil.rmtree(run, ignore_errors=True)
    settings = [part for setting in SHARDS for part in ("--set", setting)]
    return ["train", "small.yaml", "--run", str(run), "--processes", str(processes), "-q", *settings]


def processes_of(pid: int) -> list[int]:
    """A process and those that it has started."""
    found = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in found.stdout.splitlines()]
    return [pid, *(child for child, parent in pairs if parent == pid)]


@pytest.mark.parametrize("kills", [pytest.param(50, marks=pytest.mark.long), 2], ids=["long", "quick"])
def test_kills_of_any_process_at_random_moments(
    tmp_path: Path, forks: Forks, tell: Callable[[str], None], kills: int
) -> None:
    expected = end_of(train(tmp_path, "whole", overrides=SHARDS, steps=STEPS, validate=3))
    run, draw = tmp_path / "run", random.Random(kills)
    killed = {"the first": 0, "another": 0}
    runs = begun = 0

    def kill(pid: int) -> None:
        if sum(killed.values()) < kills:
            time.sleep(draw.uniform(0, LONGEST_SECONDS))
            chosen = draw.choice(processes_of(pid))
            with suppress(ProcessLookupError):  # of another that has just ended
                os.kill(chosen, signal.SIGKILL)
            killed["the first" if chosen == pid else "another"] += 1

    while sum(killed.values()) < kills or run.exists():
        end = forks.run(command(run, draw.randint(1, 3)), cwd=tmp_path, meanwhile=kill)
        assert end.code in (0, 6, -signal.SIGKILL), end
        assert end.err.count("\n") == (end.code == 6), end
        if end.code == 0:
            assert end_of(run) == expected
            assert left_overs(run) == []
            shutil.rmtree(run)
            runs += 1
        elif (run / "config.yaml").exists():
            begun += refuse_damage(run)
    told = " and ".join(f"{count} of {which}" for which, count in killed.items())
    tell(f"{told} process survived in {runs} training runs, {begun} had a checkpoint")


@pytest.mark.parametrize("stops", [pytest.param(20, marks=pytest.mark.long), 1], ids=["long", "quick"])
def test_stops_at_random_moments(tmp_path: Path, forks: Forks, tell: Callable[[str], None], stops: int) -> None:
    expected = end_of(train(tmp_path, "whole", overrides=SHARDS, steps=STEPS, validate=3))
    draw = random.Random(stops)
    slowly = "from charlstm.training.recorder import Recorder; import time; log = Recorder.log; "
    slowly += "Recorder.log = lambda *facts: (log(*facts), time.sleep(0.03))"
    stopped = 0

    def stop(pid: int) -> None:
        wait_until((run / "metrics.jsonl").exists)
        time.sleep(draw.uniform(0, 0.5))
        os.kill(pid, signal.SIGTERM)

    for number in range(stops):
        run = tmp_path / f"run{number}"
        write_settings(tmp_path, steps=STEPS, validate=3, save=100)
        end = forks.run(command(run, draw.randint(2, 3)), cwd=tmp_path, first=slowly, meanwhile=stop)
        assert end.code == 143, end
        stopped += refuse_damage(run)
        end = forks.run(command(run, draw.randint(1, 3)), cwd=tmp_path)
        assert end.code == 0, end
        found = end_of(run)
        assert (found["latest"], found["metrics"]) == (expected["latest"], expected["metrics"])
    tell(f"{stopped} of {stops} stopped, saved and resumed to the same bits")
