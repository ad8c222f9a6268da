"""Forgeries are refused, or are checkpoints that could have been: by a resume, and by the commands in little memory."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from charlstm import runs
from charlstm.errors import CharLSTMError, RunError
from charlstm.runs import checkpoints

from ..forks import Forks
from ..small_runs import contents, resume
from .forgeries import FORGERIES, LATEST, SCALARS, forge

EACH = [(file, what) for file, forgeries in FORGERIES.items() for what in forgeries]


def refused(run: Path) -> bool:
    """Whether the resume of a run is refused or falls back; anything but a user error is a failure."""
    for other in ("step-00000004", "step-00000005"):
        shutil.rmtree(run / "checkpoints" / other, ignore_errors=True)
    try:
        resume(run, ("training.max_steps=8",))
    except CharLSTMError:
        return True
    return False


@pytest.mark.parametrize("name", SCALARS)
def test_forgeries_of_the_progress_are_refused(run: Path, name: str) -> None:
    data = SCALARS[name](json.loads((run / LATEST / "progress.json").read_bytes()))
    forge(run, "progress.json", data)
    with suppress(RunError):  # a command that samples may pass over what it does not need
        checkpoints.read_checkpoint(runs.open_run(run), "best", model_only=True)
    if not refused(run):
        assert name == "a scalar twice"  # the last of them counts, as it is written
    assert not Path("touched").exists()


@pytest.mark.parametrize(("file", "what"), EACH)
def test_forgeries_of_arrays_are_refused(run: Path, file: str, what: str) -> None:
    data = FORGERIES[file][what]((run / LATEST / file).read_bytes())
    forge(run, file, data)
    if what == "a name twice":  # the last of them counts, as it is written: the same content
        assert not refused(run)
        return
    if file == "model.safetensors":
        with pytest.raises(RunError) as caught:
            checkpoints.read_checkpoint(runs.open_run(run), "best", model_only=True)
        assert "\n" not in str(caught.value)
    assert refused(run)
    assert not Path("touched").exists()


def test_forgeries_of_settings_are_refused_or_taken(run: Path) -> None:
    """Other settings that one has signed for are read; a model that does not fit them is refused, in bounded memory."""
    text = (run / "config.yaml").read_text().partition("\n")[2]
    for old, new in (
        ("num_layers: 2", "num_layers: 1"),
        ("num_layers: 2", "num_layers: 2000000000"),
        ("hidden_size: 8", "hidden_size: 9"),
        ("hidden_size: 8", "hidden_size: 9000000000000000000"),
        ("embedding_size: 5", "embedding_size: 9000000000000000000"),
        ("cell: lstm", "cell: gru"),
        ("batch_size: 3", "batch_size: 4"),
        ("batch_size: 3", "batch_size: 9000000000000000000"),
        ("unit: char", "unit: byte"),
        ("bidirectional: false", "bidirectional: true"),
    ):
        assert old in text
        (run / "config.yaml").write_text(text.replace(old, new))
        assert refused(run), new


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("model.safetensors", "a header of a gigabyte"),
        ("model.safetensors", "absurd and empty"),
        ("training.safetensors", "absurd"),
        ("training.safetensors", "megabytes of header"),
        ("progress.json", "megabytes"),
    ],
)
def test_forgeries_are_refused_by_the_commands_in_bounded_memory(
    run: Path, forks: Forks, tmp_path: Path, file: str, what: str
) -> None:
    original = (run / LATEST / file).read_bytes()
    change = FORGERIES[file][what] if file in FORGERIES else lambda data: SCALARS[what](json.loads(data))
    forge(run, file, change(original))
    shutil.rmtree(run / "checkpoints" / "step-00000004")
    shutil.rmtree(run / "checkpoints" / "step-00000005")
    before = contents(run)
    commands = [["train", "--resume", str(run)]]
    if file != "training.safetensors":
        commands += [["sample", "--run", str(run), "--length", "5"], ["eval", "--run", str(run)]]
    for command in commands:
        end = forks.run(command, cwd=tmp_path, more_memory_bytes=200 << 20)
        assert (end.code, end.out, end.err.count("\n")) == (RunError.exit_code, "", 1), end
        assert contents(run) == before
