"""A training run that is stopped at any step, any number of times, and resumed ends with the same bits."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ..small_runs import end_of, left_overs, resume, start, stopping, train, write_settings

STEPS = 14  # an epoch is 10
CADENCES = (1, 3, 7)


def interrupted(folder: Path, stops: Sequence[int], more: Sequence[str] = ()) -> Path:
    """A run that was stopped after each of these steps and resumed."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    for number, stop in enumerate([*stops, None]):
        with stopping(stop):
            if number == 0:
                start(folder, run, more)
            else:
                resume(run)
        assert stop is None or (run / "latest").read_text().startswith(f"step-{stop:08d}")
    return run


def test_resumes_at_every_step_end_with_the_same_bits(tmp_path: Path, tell: Callable[[str], None]) -> None:
    expected = end_of(train(tmp_path, "whole", steps=STEPS, validate=4, save=5))
    for step in range(1, STEPS + 1):
        run = interrupted(tmp_path, [step])
        assert end_of(run) == expected, step
        assert left_overs(run) == []
    tell(f"{STEPS} resume points bit-equal")


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.long), 45], ids=["long", "quick"])
def test_resumes_twice_end_with_the_same_bits(tmp_path: Path, tell: Callable[[str], None], stride: int) -> None:
    expected = end_of(train(tmp_path, "whole", steps=STEPS, validate=4, save=5))
    pairs = [(first, second) for first in range(1, STEPS) for second in range(first + 1, STEPS + 1)][::stride]
    for pair in pairs:
        assert end_of(interrupted(tmp_path, pair)) == expected, pair
    tell(f"{len(pairs)} pairs of resume points bit-equal")


def test_resumes_after_each_step_in_turn(tmp_path: Path) -> None:
    expected = end_of(train(tmp_path, "whole", steps=STEPS, validate=4, save=5))
    assert end_of(interrupted(tmp_path, range(1, STEPS))) == expected


@pytest.mark.parametrize(
    "more",
    [
        ("model.cell=gru", "model.num_layers=3"),
        ("model.cell=peephole",),
        ("model.cell=peephole-full", "model.num_layers=1"),
        ("model.cell=rnn", "model.kernel=unrolled", "model.num_layers=1"),
        ("model.objective=cloze", "model.bidirectional=true"),
        ("training.optimizer=adam", "training.schedule=constant", "training.clip_norm=null"),
        ("training.optimizer=adamw", "training.batch_size=32"),
        ("data.unit=byte", "training.log_every_steps=4"),
        (
            "training.patience=1",
            "training.optimizer=adamw",
            "training.learning_rate=0.8",
            "training.segment_steps=null",
        ),
        ("training.threads=2", "training.shards=3", "training.batch_size=16", "training.sequence_length=4"),
        ("training.threads_per_shard=2", "model.hidden_size=16"),
        ("data.documents=line",),
        ("data.documents=line", "model.objective=cloze", "model.bidirectional=true", "data.shuffle=false"),
    ],
    ids=[
        "gru",
        "peephole",
        "peephole-full",
        "rnn",
        "cloze",
        "adam",
        "adamw",
        "byte",
        "patience",
        "threads",
        "teams",
        "lines",
        "gaps",
    ],
)
def test_resumes_of_other_settings_end_with_the_same_bits(tmp_path: Path, more: tuple[str, ...]) -> None:
    whole = train(tmp_path, "whole", steps=STEPS, validate=2, save=5, overrides=more)
    expected = end_of(whole)
    assert "training.patience=1" not in more or len(expected["metrics"]) < STEPS
    assert end_of(interrupted(tmp_path, (1, 3, 6), more)) == expected


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.long), 10], ids=["long", "quick"])
def test_resumes_with_any_cadence_leave_the_training_unchanged(
    tmp_path: Path, tell: Callable[[str], None], stride: int
) -> None:
    """Logged, validated and saved every 1, 3 or 7 steps, never stopped or stopped once: the same losses and weights."""
    reference = end_of(train(tmp_path, "whole", steps=STEPS, validate=1, save=1))
    losses = {line["step"]: (line["loss"], line["grad_norm"]) for line in reference["metrics"]}
    cadences = [(log, validate, save) for log in CADENCES for validate in CADENCES for save in CADENCES]
    for number, (log, validate, save) in enumerate(cadences[::stride]):
        write_settings(tmp_path, steps=STEPS, validate=validate, save=save)
        stops = [1 + number % (STEPS - 1)] if number % 2 else []
        end = end_of(interrupted(tmp_path, stops, [f"training.log_every_steps={log}"]))
        assert end["latest"][1:3] == reference["latest"][1:3]
        found = {line["step"]: (line["loss"], line["grad_norm"]) for line in end["metrics"]}
        assert found.items() <= losses.items()
        assert set(found) >= set(range(log, STEPS + 1, log))
    tell(f"{len(cadences[::stride])} cadences with the same losses and weights")


def test_resumes_may_change_the_intervals(tmp_path: Path) -> None:
    expected = end_of(train(tmp_path, "whole", steps=STEPS))
    run = tmp_path / "run"
    with stopping(5):
        start(tmp_path, run)
    resume(run, ("training.save_every_steps=3", "training.log_every_steps=7"))
    assert end_of(run)["latest"][1:3] == expected["latest"][1:3]
