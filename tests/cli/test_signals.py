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
from .commands import STEPS, charlstm

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


@pytest.mark.parametrize(
    ("number", "code", "step"),
    [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 4), (signal.SIGHUP, 129, 7), (signal.SIGUSR1, 138, STEPS - 1)],
)
def test_train_stopped_by_a_signal_and_resumed_ends_with_the_same_bits(
    number: signal.Signals, code: int, step: int, signal_after_step: Callable[[int, signal.Signals], None]
) -> None:
    signal_after_step(step, number)
    stopped = charlstm("train", "tiny.yaml", "--run", "stopped", expect=code)
    assert stopped.stderr.endswith(f"after step {step}, go on with: charlstm train --resume stopped\n")
    assert Path("stopped/latest").read_text().startswith(f"step-{step:08d}")
    charlstm("train", "--resume", "stopped")
    assert ending(Path("stopped")) == ending(Path("runs/tiny"))


def test_train_that_a_signal_meets_at_its_last_step_is_done(
    signal_after_step: Callable[[int, signal.Signals], None],
) -> None:
    signal_after_step(STEPS, signal.SIGINT)
    assert "sample with" in charlstm("train", "tiny.yaml").stderr


LOG = "from charlstm.training.recorder import Recorder; import time; log = Recorder.log; Recorder.log = "


def test_train_in_a_process_saves_at_a_signal_and_resumes_to_the_same_bits(here: Path, forks: Forks) -> None:
    def interrupt(pid: int) -> None:
        wait_until((here / "run" / "metrics.jsonl").exists)  # it has taken a step
        os.kill(pid, signal.SIGTERM)

    slowly = LOG + "lambda *facts: (log(*facts), time.sleep(0.05))"
    end = forks.run(["train", "tiny.yaml", "--run", "run"], cwd=here, first=slowly, meanwhile=interrupt)
    assert (end.code, end.out) == (143, ""), end.err
    assert "SIGTERM: finishing this step and saving" in end.err
    assert end.err.splitlines()[-1].endswith("go on with: charlstm train --resume run")
    charlstm("train", "--resume", "run", "--quiet")
    assert ending(Path("run")) == ending(Path("runs/tiny"))


def test_train_leaves_at_a_second_interrupt_and_can_be_resumed(here: Path, forks: Forks) -> None:
    def told(sentence: str) -> bool:
        return (here / ".err").exists() and sentence in (here / ".err").read_text()

    def interrupt_twice(pid: int) -> None:
        wait_until(lambda: told("\nrun "))  # the header's last line
        time.sleep(0.2)  # and a step of a millisecond
        for answer in ("SIGINT: finishing this step and saving", ""):
            os.kill(pid, signal.SIGINT)
            wait_until(lambda answer=answer: told(answer))

    end = forks.run(
        ["train", "tiny.yaml", "--run", "left"],
        cwd=here,
        first=LOG + "lambda *_: time.sleep(60)",
        meanwhile=interrupt_twice,
    )
    assert end.code == 130
    assert end.err.count("SIGINT") == 1
    assert "Traceback" not in end.err
    charlstm("train", "--resume", "left", "--quiet")
    assert ending(Path("left")) == ending(Path("runs/tiny"))


LOUD = "import charlstm.__main__ as m; print('up', flush=True)"


@pytest.mark.parametrize("delay_seconds", [0.15, 0.6])
def test_cli_ends_without_a_traceback_when_interrupted_early(delay_seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", f"{LOUD}; m.main()", "train", "tiny.yaml"],
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
