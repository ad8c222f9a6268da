"""Several processes that train one model: the bits of one, one end for all, one sentence for what went wrong."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from ..forks import End, Forks, wait_until
from ..small_runs import ending, left_overs, refuse_damage, write_settings
from .commands import charlstm

STEPS = 8
SETTINGS = ("training.batch_size=11", "training.sequence_length=4", "training.shards=5", "training.patience=99")
AT_STEP = """if True:
    import os, signal
    from charlstm.training.recorder import Recorder
    log = Recorder.log
    def logged(recorder, facts):
        log(recorder, facts)
        if (facts.step, recorder.trainer.processes.rank) == ({step}, {rank}):
            {then}
    Recorder.log = logged
"""
TWO_MACHINES = """if True:
    import os, signal, sys
    rank = "0" if os.fork() else "1"
    os.environ.update(RANK=rank, WORLD_SIZE="2", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1",
                      MASTER_ADDR="127.0.0.1", MASTER_PORT="{port}")
    import charlstm.machine.sums
    charlstm.machine.sums.MOST_AT_ONCE = 50  # numbers, so that gradients take many messages
    if rank == "1":
        os.dup2(os.open("other.err", os.O_WRONLY | os.O_CREAT, 0o600), 2)
        {on_second}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path, steps=STEPS, validate=3, save=2)
    return tmp_path


def options(settings: Sequence[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def start(
    forks: Forks, here: Path, run: str, processes: int, *more: str, settings: Sequence[str] = (), first: str = ""
) -> End:
    command = ["train", "small.yaml", "--run", run, "--processes", str(processes), *options(SETTINGS), *more]
    return forks.run([*command, *options(settings)], cwd=here, first=first)


def resume(forks: Forks, here: Path, run: str, processes: int) -> None:
    end = forks.run(["train", "--resume", run, "--processes", str(processes)], cwd=here)
    assert end.code == 0, end.err


def on_two_machines(forks: Forks, here: Path, *arguments: str, on_second: str = "pass") -> tuple[End, str]:
    """A run as torchrun starts it on two machines, with a process on each; what was told on the second one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["train", "small.yaml", "--run", "run", *options(SETTINGS), *arguments]
    end = forks.run(command, cwd=here, first=TWO_MACHINES.format(port=port, on_second=on_second))
    wait_until(lambda: end.code == 0 or "charlstm:" in (here / "other.err").read_text())
    return end, (here / "other.err").read_text()


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("training.gradient_compression=bf16", "model.cell=gru"),
        ("training.optimizer=adamw",),
        pytest.param(("model.objective=cloze", "model.bidirectional=true"), marks=pytest.mark.long),
        pytest.param(("training.segment_steps=null", "model.recurrent_dropout=0.2"), marks=pytest.mark.long),
        pytest.param(("training.shards=3", "training.threads=2", "data.split=[0.5,0.5,0]"), marks=pytest.mark.long),
    ],
    ids=["exact", "bf16", "adamw", "cloze", "stream", "threads"],
)
def test_processes_of_any_number_train_the_same_bits(here: Path, forks: Forks, settings: Sequence[str]) -> None:
    found = {}
    for processes in (1, 2, 3):
        end = start(forks, here, f"run{processes}", processes, settings=settings)
        assert end.code == 0, end.err
        assert f"{processes} processes" in end.err or processes == 1
        found[processes] = ending(here / f"run{processes}")
    assert found[1] == found[2] == found[3]


@pytest.mark.long
@pytest.mark.parametrize("processes", [4, 6])
def test_processes_of_larger_number_train_the_same_bits(here: Path, forks: Forks, processes: int) -> None:
    for run, number in (("one", 1), ("many", processes)):
        end = start(forks, here, run, number)
        assert end.code == 0, end.err
    assert ("only 5 of 6 processes have work" in end.err) == (processes == 6)
    assert ending(here / "many") == ending(here / "one")


@pytest.mark.parametrize(("rank", "number"), [(0, signal.SIGTERM), (1, signal.SIGUSR1)])
def test_processes_stop_together_at_a_signal_to_one_and_resume_in_another_number(
    here: Path, forks: Forks, rank: int, number: signal.Signals
) -> None:
    stop = AT_STEP.format(step=5, rank=rank, then=f"os.kill(os.getpid(), {int(number)})")
    end = start(forks, here, "stopped", 3, first=stop)
    assert end.code == 128 + number, end.err
    assert end.err.splitlines()[-1].endswith("after step 5, go on with: charlstm train --resume stopped")
    assert end.err.count("charlstm:") == 1
    assert (here / "stopped" / "latest").read_text().startswith("step-00000005")
    resume(forks, here, "stopped", 2)
    assert start(forks, here, "whole", 1).code == 0
    assert ending(here / "stopped") == ending(here / "whole")


def test_processes_end_with_one_sentence_when_one_is_killed(here: Path, forks: Forks) -> None:
    kill = AT_STEP.format(step=5, rank=1, then="os.kill(os.getpid(), signal.SIGKILL)")
    end = start(forks, here, "killed", 3, "--quiet", first=kill)
    sentence = "process 1 of 3 was ended by SIGKILL; what was saved is whole: if the run had begun, go on with --resume"
    assert (end.code, end.err) == (6, f"charlstm: {sentence}\n")
    assert refuse_damage(here / "killed")
    resume(forks, here, "killed", 2)
    assert left_overs(here / "killed") == []
    assert start(forks, here, "whole", 1).code == 0
    assert ending(here / "killed") == ending(here / "whole")


def test_processes_end_when_one_is_killed_before_they_meet(here: Path, forks: Forks) -> None:
    kill = "import os, signal; from charlstm.cli import processes; code = processes._exit_code; "
    kill += "processes._exit_code = lambda *how: os.kill(os.getpid(), signal.SIGKILL)"
    end = start(forks, here, "none", 2, "--quiet", first=kill)
    assert end.code == 6
    assert end.err.startswith("charlstm: process 1 of 2 was ended by SIGKILL;")
    assert not (here / "none").exists()


@pytest.mark.parametrize("call", ["init_process_group", "new_group"])
def test_processes_end_when_one_is_killed_while_they_meet(here: Path, forks: Forks, call: str) -> None:
    kill = f"import os, signal; import torch.distributed as dist; first, call = os.getpid(), dist.{call}; "
    kill += f"dist.{call} = lambda *a, **k: "
    kill += "os.kill(os.getpid(), signal.SIGKILL) if os.getpid() != first else call(*a, **k)"
    end = start(forks, here, "none", 2, "--quiet", first=kill)
    assert end.code == 6
    assert end.err.startswith("charlstm: process 1 of 2 was ended by SIGKILL;")
    assert not (here / "none").exists()


def test_processes_end_when_the_first_is_killed(here: Path, forks: Forks) -> None:
    hang = "open('pid', 'w').write(str(os.getpid())); __import__('time').sleep(600)"

    def is_over() -> bool:
        state = subprocess.run(["ps", "-o", "stat=", "-p", (here / "pid").read_text()], capture_output=True, text=True)
        return state.stdout.strip()[:1] in ("", "Z")

    def kill_first(pid: int) -> None:
        wait_until(lambda: (here / "pid").exists() and bool((here / "pid").read_text()))
        os.kill(pid, signal.SIGKILL)
        wait_until(is_over)

    command = ["train", "small.yaml", "--run", "killed", "--processes", "2", *options(SETTINGS)]
    end = forks.run(command, cwd=here, first=AT_STEP.format(step=3, rank=1, then=hang), meanwhile=kill_first)
    assert end.code == -signal.SIGKILL
    assert refuse_damage(here / "killed")


def test_processes_tell_an_error_of_all_once(here: Path, forks: Forks) -> None:
    end = start(forks, here, "run", 3, "--quiet", settings=["training.learning_rate=1e30", "training.clip_norm=null"])
    assert (end.code, end.err.count("charlstm:")) == (5, 1), end.err
    end = start(forks, here, "no", 2, "--quiet", settings=["data.sources=nowhere.txt"])
    assert (end.code, end.err.count("\n")) == (3, 1), end.err
    assert not (here / "no").exists()


@pytest.mark.parametrize(
    "settings", [("training.optimizer=adam",), ("training.gradient_compression=bf16", "training.shards=1")]
)
def test_processes_of_two_machines_train_the_same_bits(here: Path, forks: Forks, settings: Sequence[str]) -> None:
    end, second = on_two_machines(forks, here, *options(settings))  # one shard: the second process has none
    assert end.code == 0, end.err
    assert second == "process 1 of 2; process 0 prints all else, and has the run folder\n"
    assert start(forks, here, "whole", 1, settings=settings).code == 0
    assert ending(here / "run") == ending(here / "whole")


@pytest.mark.parametrize(
    ("on_second", "code", "sentence"),
    [
        ("os.chdir('second')", 3, "the text of process 1 is not that of process 0"),
        ("sys.argv += ['--set', 'model.dropout=0.5']", 2, "model.dropout is 0.3 in process 0 but 0.5 in process 1"),
        ("os.chdir('empty')", 3, "text.txt"),
        ("__import__('charlstm.training.together').training.together.__version__ = '0.0'", 2, "but 0.0 in process 1"),
    ],
    ids=["text", "settings", "missing", "version"],
)
def test_processes_that_differ_are_refused_on_each_machine(
    here: Path, forks: Forks, on_second: str, code: int, sentence: str
) -> None:
    for folder in ("second", "empty"):
        (here / folder).mkdir()
        shutil.copy("small.yaml", folder)
    (here / "second" / "text.txt").write_text((here / "text.txt").read_text() + "more")
    end, second = on_two_machines(forks, here, "--quiet", "--set", "data.sources=text.txt", on_second=on_second)
    assert (end.code, end.err.count("charlstm:"), second.count("charlstm:")) == (code, 1, 1), end.err + second
    assert sentence in end.err
    assert sentence in second
    assert not (here / "run").exists()


def test_processes_that_take_local_steps_stop_where_they_agree_and_resume(here: Path, forks: Forks) -> None:
    settings = ["training.local_steps=2", "training.validate_every_steps=4", "training.optimizer=adamw"]
    assert start(forks, here, "whole", 2, settings=settings).code == 0
    stop = AT_STEP.format(step=3, rank=1, then="os.kill(os.getpid(), signal.SIGTERM)")
    end = start(forks, here, "stopped", 2, settings=settings, first=stop)
    assert (end.code, end.err.count("stopped and saved after step 4")) == (143, 1), end.err
    resume(forks, here, "stopped", 2)
    assert ending(here / "stopped") == ending(here / "whole")
    assert start(forks, here, "raised", 2, settings=[settings[0], settings[2]]).code == 0  # from every third step
    assert ending(here / "raised") == ending(here / "whole")


def test_processes_have_settings_chosen_together(here: Path, forks: Forks) -> None:
    command = ["train", "text.txt", "--run", "run", "--processes", "2", *options(["training.max_steps=2"])]
    end = forks.run(command, cwd=here)
    assert end.code == 0, end.err
    assert end.err.count("chosen ") == 1


def test_processes_that_take_local_steps_may_have_no_lane(here: Path, forks: Forks) -> None:
    end = start(forks, here, "run", 2, settings=["training.local_steps=2", "training.batch_size=1"])
    assert end.code == 0, end.err


def test_processes_that_cannot_share_memory_exchange_messages(here: Path, forks: Forks) -> None:
    assert start(forks, here, "run", 2, first="import os; del os.memfd_create").code == 0
    assert start(forks, here, "whole", 1).code == 0
    assert ending(here / "run") == ending(here / "whole")


@pytest.mark.parametrize("address", [{}, {"MASTER_ADDR": "localhost", "MASTER_PORT": "near"}])
def test_processes_are_told_where_to_meet(here: Path, monkeypatch: pytest.MonkeyPatch, address: dict[str, str]) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    place = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in (place | address).items():
        monkeypatch.setenv(name, value)
    assert "MASTER_ADDR" in charlstm("train", "small.yaml", "--run", "run", expect=2).stderr
    assert not (here / "run").exists()
