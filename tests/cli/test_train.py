"""`charlstm train`: what it says, logs and saves, and how it goes on where the disk refuses."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from charlstm import files, runs
from charlstm.evaluation import Tally
from charlstm.training import recorder

from ..small_runs import ending
from .commands import STEPS, charlstm, listing, metrics

pytestmark = pytest.mark.usefixtures("here")


def test_train_tells_where_it_stands_and_how_to_go_on() -> None:
    result = charlstm("train", "tiny.yaml")
    said = result.stderr.splitlines()
    assert result.stdout_bytes == b""
    assert said[-3].startswith(f"training.max_steps reached: {STEPS} steps, {STEPS * 64} characters")
    assert "best val_loss" in said[-2]
    assert "runs/tiny-2" in said[-2]  # the name was taken
    assert said[-1] == "sample with: charlstm sample --run runs/tiny-2 --temp 0.8 --top-k 10"
    header = "\n".join(said)
    for fact in (
        "text.txt: 6,000 characters",
        "4,800 to train, 600 to validate",
        "lstm 2 × 8",
        "cpu, 2 shards on 1 thread, fp32",
    ):
        assert fact in header
    assert f"until       {STEPS} steps" in header
    assert len([line for line in said if line.startswith("step ") and "val_loss" in line]) == STEPS // 4
    charlstm(*said[-1].split()[3:], "--length", 5)


def test_train_quiet_says_nothing() -> None:
    result = charlstm("train", "tiny.yaml", "--run", "silent", "--quiet")
    assert result.output == ""
    assert charlstm("train", "--resume", "silent", "--quiet").output == ""


def test_train_says_which_characters_became_the_unknown_symbol(here: Path) -> None:
    (here / "rare.txt").write_text("abcd\n" * 200 + "éß")
    told = charlstm("train", "tiny.yaml", "--set", "data.sources=rare.txt", "--set", "data.min_count=2").stderr
    assert "5 characters and the unknown symbol, which stands for 2 characters of the text (0.20%)" in told


def test_train_logs_the_keys_that_are_promised() -> None:
    lines = metrics(Path("runs/tiny"))
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    every = {"step", "chars", "seconds", "loss", "bits_per_char", "learning_rate", "grad_norm", "chars_per_second"}
    validated = {"val_loss", "val_bits_per_char", "val_accuracy"}
    for line in lines:
        assert line.keys() - {"validation_seconds"} == (every | validated if line["step"] % 4 == 0 else every)


def test_train_resume_of_a_finished_run_says_so_and_goes_on_when_a_limit_is_raised(here: Path) -> None:
    assert "has reached training.max_steps already" in charlstm("train", "--resume", "runs/tiny").stderr
    charlstm("train", "--resume", "runs/tiny", "--set", "training.max_steps=15")
    assert (here / "runs/tiny/latest").read_text().startswith("step-00000015")


def test_train_refuses_to_resume_on_another_text(here: Path) -> None:
    charlstm("train", "tiny.yaml", "--run", "again")
    with (here / "text.txt").open("a") as file:
        file.write("more")
    resume = ["train", "--resume", "again", "--set", "training.max_steps=15"]
    assert "has changed" in charlstm(*resume, expect=4).stderr
    (here / "text.txt").unlink()
    assert "there is no file" in charlstm(*resume, expect=3).stderr


def test_train_retries_a_save_that_failed_and_never_points_best_at_a_worse_one(monkeypatch: pytest.MonkeyPatch) -> None:
    save = runs.save_checkpoint
    failures = 0

    def full_disk_at_step_4(run: runs.Run, checkpoint: runs.Checkpoint, *, is_best: bool) -> None:
        nonlocal failures
        if checkpoint.progress.step == 4 and failures < 2:
            failures += 1
            with files.disk_errors("checkpoint"):
                raise OSError(28, "No space left on device")
        save(run, checkpoint, is_best=is_best)

    losses = iter([2.0, 3.0, 2.5])  # of the validations after steps 4, 8 and 12
    monkeypatch.setattr(recorder, "save_checkpoint", full_disk_at_step_4)
    monkeypatch.setattr(
        "charlstm.training.trainer.evaluate",
        lambda *_args, **_settings: SimpleNamespace(tally=Tally(next(losses), 0, 1)),
    )
    said = charlstm("train", "tiny.yaml", "--run", "full").stderr
    assert "No space left on device" in said
    assert "training goes on" in said
    opened = runs.open_run(Path("full"))
    assert failures == 2
    assert runs.read_checkpoint(opened, "best").progress.step == 4
    assert runs.read_checkpoint(opened, "latest").progress.step == STEPS


def test_train_goes_on_when_metrics_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    append = runs.append_metrics
    calls = 0

    def full_disk_for_a_while(folder: Path, row: runs.MetricsRow) -> None:
        nonlocal calls
        calls += 1
        if 3 <= calls <= 5:
            with files.disk_errors("metrics.jsonl"):
                raise OSError(28, "No space left on device")
        append(folder, row)

    monkeypatch.setattr(recorder, "append_metrics", full_disk_for_a_while)
    charlstm("train", "tiny.yaml", "--run", "full")
    assert ending(Path("full"))["metrics"] == ending(Path("runs/tiny"))["metrics"]


def test_train_that_cannot_save_its_beginning_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_args: object, **_state: object) -> None:
        with files.disk_errors("checkpoint"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder, "save_checkpoint", full_disk)
    before = listing(here)
    assert "No space left" in charlstm("train", "tiny.yaml", expect=6).stderr
    assert listing(here) == before
