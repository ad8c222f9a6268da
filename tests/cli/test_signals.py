"""Signals that ask a training run to stop: it saves, says how to go on, and resumes to the same bits."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from charlstm.training.recorder import Recorder

from ..forks import Forks, wait_until
from ..small_runs import ending
from .commands import CYRILLIC, STEPS, charlstm, write_settings

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def signal_after_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, signal.Signals], None]:
    """Have a signal arrive right after a step; once."""
    log = Recorder.log

    def arrange(step: int, number: signal.Signals) -> None:
        def interrupted(self: Recorder, facts: Any) -> None:
            log(self, facts)
            if facts.step == step:
                monkeypatch.setattr(Recorder, "log", log)
                signal.raise_signal(number)

        monkeypatch.setattr(Recorder, "log", interrupted)

    return arrange


@pytest.mark.parametrize("step", [1, 4, 7, STEPS - 1])
def test_train_stopped_by_a_signal_and_resumed_ends_with_the_same_bits(
    step: int, signal_after_step: Callable[[int, signal.Signals], None]
) -> None:
    signal_after_step(step, signal.SIGTERM)
    stopped = charlstm("train", "tiny.yaml", "--run", "stopped", expect=143)
    assert stopped.stderr.endswith(f"after step {step}, go on with: charlstm train --resume stopped\n")
    assert Path("stopped/latest").read_text().startswith(f"step-{step:08d}")
    charlstm("train", "--resume", "stopped")
    assert ending(Path("stopped")) == ending(Path("runs/tiny"))


def test_train_that_a_signal_meets_at_its_last_step_is_done(
    signal_after_step: Callable[[int, signal.Signals], None],
) -> None:
    signal_after_step(STEPS, signal.SIGINT)
    assert "sample with" in charlstm("train", "tiny.yaml").stderr


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> dict[str, Any]:
    """What a training run of 40 steps leaves."""
    folder = tmp_path_factory.mktemp("reference")
    write_settings(folder, CYRILLIC, steps=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CHARLSTM_CACHE", str(session_cache))
        charlstm("train", "tiny.yaml", "--run", "whole", "--quiet")
    return ending(folder / "whole")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)]
)
def test_train_in_a_process_saves_at_a_signal_and_resumes_to_the_same_bits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forks: Forks,
    reference: dict[str, Any],
    number: signal.Signals,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path, CYRILLIC, steps=40)

    def interrupt(pid: int) -> None:
        wait_until((tmp_path / "run" / "metrics.jsonl").exists)  # it has taken a step
        os.kill(pid, number)

    end = forks.run(["train", "tiny.yaml", "--run", "run"], cwd=tmp_path, meanwhile=interrupt)
    assert (end.code, end.out) == (code, ""), end.err
    assert f"{number.name}: finishing this step and saving" in end.err
    assert end.err.splitlines()[-1].endswith("go on with: charlstm train --resume run")
    charlstm("train", "--resume", "run", "--quiet")
    assert ending(tmp_path / "run") == reference


def test_train_leaves_at_a_second_interrupt_and_can_be_resumed() -> None:
    slow_step = "from charlstm.training.recorder import Recorder; import time; Recorder.log = lambda *_: time.sleep(60)"
    program = f"{slow_step}; from charlstm.__main__ import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, "train", "tiny.yaml", "--run", "left"], stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith(b"run "):  # the header's last line
        pass
    time.sleep(0.2)  # and a step of a millisecond
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith(b"SIGINT: finishing this step and saving")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 130
    charlstm("train", "--resume", "left", "--quiet")
    assert ending(Path("left")) == ending(Path("runs/tiny"))


@pytest.mark.parametrize("delay_seconds", [0.15, 0.4, 0.8])
def test_cli_ends_without_a_traceback_when_interrupted_early(delay_seconds: float) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import charlstm.__main__ as m; print('up', flush=True); m.main()",
            "train",
            "tiny.yaml",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay_seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    assert process.returncode in (130, 0)


def test_train_respects_an_ignored_interrupt(here: Path, forks: Forks) -> None:
    latest = here / "deaf" / "latest"

    def interrupt(pid: int) -> None:
        def has_ended() -> bool:
            os.kill(pid, signal.SIGINT)
            return latest.exists() and latest.read_text().startswith(f"step-{STEPS:08d}")

        wait_until(has_ended)

    command = ["train", "tiny.yaml", "--run", "deaf"]
    end = forks.run(command, cwd=here, ignored_signals=[signal.SIGINT], meanwhile=interrupt)
    assert (end.code, end.out) == (0, ""), end.err
    assert "sample with" in end.err
    assert "SIGINT" not in end.err
