"""A run so small that it can be trained and killed thousands of times, and what must be the same at its end."""

import hashlib
import json
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from charlstm import runs
from charlstm.settings import load_settings
from charlstm.training import Session, Stepped, Warned, resume_session, start_session

CLOCK = ("seconds", "pace", "chars_per_second", "bytes_per_second")  # all that may differ from run to run
STEPS = 6
SETTINGS = """\
data:
  sources: [{text}]
  split: {split}
model:
  embedding_size: 5
  hidden_size: 8
  num_layers: 2
  dropout: 0.3
training:
  batch_size: {lanes}
  sequence_length: {length}
  max_steps: {steps}
  warmup_steps: 2
  log_every_steps: 1
  validate_every_steps: {validate}
  save_every_steps: {save}
  shards: 2
  threads: 1
  precision: fp32
  device: cpu
"""


def write_settings(folder: Path, *, steps: int = STEPS, validate: int = 2, save: int = 1) -> Path:
    """A settings file, and beside it a text of 14 different characters whose epochs last 10 steps."""
    draw = random.Random(1)
    text = folder / "text.txt"
    text.write_text("".join(draw.choice("abcdefg é\nxyz") for _ in range(260)))
    config = folder / "small.yaml"
    sizes = {"split": [0.9, 0.1, 0.0], "lanes": 3, "length": 7}
    config.write_text(SETTINGS.format(text=text, steps=steps, validate=validate, save=save, **sizes))
    return config


def train(folder: Path, name: str = "run", overrides: tuple[str, ...] = (), **settings: int) -> Path:
    """A run of the small settings, trained to its end in this process."""
    write_settings(folder, **settings)
    return start(folder, folder / name, overrides)


def start(folder: Path, run: Path, overrides: Sequence[str] = ()) -> Path:
    """Train a new run in this process by the settings that were written."""
    with start_session(load_settings(folder / "small.yaml", overrides), folder=run) as session:
        session.train()
    return run


def resume(run: Path, overrides: Sequence[str] = ()) -> Path:
    """Go on with a run in this process."""
    with resume_session(run, overrides) as session:
        session.train(tell=lambda fact: print(fact.message, file=sys.stderr) if isinstance(fact, Warned) else None)
    return run


@contextmanager
def stopping(after: int | None) -> Iterator[None]:
    """Within, every session is asked to end after a step, as by a scheduler."""
    train = Session.train

    def stopped(session: Session, **_told: Any) -> Any:
        taken: list[int] = []
        return train(
            session,
            tell=lambda fact: taken.append(fact.facts.step) if isinstance(fact, Stepped) else None,
            stop=lambda: taken[-1] == after,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "train", stopped)
        yield


def end_of(folder: Path) -> dict[str, Any]:
    """Everything that a training run leaves, but for the clock: the bits of both checkpoints, settings and metrics."""
    run = runs.open_run(folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {
        "settings": run.settings,
        "vocab": run.vocab,
        "text": run.text,
        "latest": bits(runs.read_checkpoint(run, "latest")),
        "best": bits(runs.read_checkpoint(run, "best")),
        "metrics": [_without_clock(json.loads(line)) for line in lines],
    }


def ending(run: Path) -> dict[str, Any]:
    """The same but for the settings, which name the run's place and what it may be resumed with."""
    return {name: value for name, value in end_of(run).items() if name != "settings"}


def bits(checkpoint: runs.Checkpoint) -> tuple[Any, ...]:
    """A checkpoint as values that are equal only if every bit is, but for the clock."""
    arrays = [
        {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in part.items()}
        for part in (checkpoint.weights, checkpoint.training)
    ]
    return checkpoint.name, *arrays, _without_clock(msgspec.to_builtins(checkpoint.progress))


def refuse_damage(folder: Path) -> bool:
    """Fail unless both pointers of a run name whole checkpoints; False if no checkpoint was ever completed."""
    if not (folder / "latest").exists():
        assert not (folder / "best").exists()
        return False
    run = runs.open_run(folder)
    for which in ("latest", "best"):
        if (folder / which).exists():
            runs.read_checkpoint(run, which)  # verifies every byte
    return True


def left_overs(folder: Path) -> list[str]:
    """What an unfinished write has left in a run folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*unfinished*"))


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder with the sha256 of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _without_clock(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in CLOCK}
