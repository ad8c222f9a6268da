"""`charlstm train`: what it says, logs and saves, and how it goes on where the disk refuses."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from charlstm import files, runs
from charlstm.cli.train import name_of_text
from charlstm.evaluation import Tally
from charlstm.settings import load_settings
from charlstm.training import recorder

from .commands import STEPS, charlstm, metrics

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


def test_train_in_one_process_takes_no_local_steps(here: Path) -> None:
    local = ["--set", "training.local_steps=1000", "--set", "training.max_steps=1"]
    charlstm("train", "tiny.yaml", "--run", "alone", *local)
    training, asked = (load_settings(here / file, []).training for file in ("alone/config.yaml", "tiny.yaml"))
    assert training.save_every_steps == asked.save_every_steps
    assert training.validate_every_steps == asked.validate_every_steps


QUICK = ("--set", "model.hidden_size=4", "--set", "training.max_steps=1", "--set", "training.device=cpu", "--quiet")


def test_train_takes_texts_and_names_the_run_after_the_first(here: Path) -> None:
    (here / "chapters").mkdir()
    for name in ("a.txt", "b.txt"):
        (here / "chapters" / name).write_text("the cat sat on the mat\n" * 20)
    for arguments, name, count in (
        (["text.txt"], "text", 6000),
        (["chapters/"], "chapters", 920),
        (["chapters/*.txt", "text.txt"], "chapters-2", 6920),
        (["text.txt", "-"], "text-2", 6003),
        (["-"], "stdin", 3),
        (["tiny.yaml", "chapters/a.txt"], "a", 460),
        (["chapters/b.txt", "tiny.yaml"], "b", 460),
    ):
        charlstm("train", *arguments, *QUICK, stdin="abc")
        run = runs.open_run(Path("runs") / name)
        assert runs.newest_folder() == run.folder
        assert runs.own_corpus(run).chars == count
        embedding = 5 if "tiny.yaml" in arguments else min(128, run.settings.model.hidden_size)
        assert run.settings.model.embedding_size == embedding


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("novel.txt", "novel"),
        ("novel.txt.gz", "novel"),
        ("my.novel.txt", "my.novel"),
        ("python-stdlib", "python-stdlib"),
        ("~", Path.home().name),
        ("runs/../runs/", "runs"),
        ("no/books-[12]/*.txt", "no"),
        (".hidden", ".hidden"),
        ("..txt", "text"),
        ("/", "text"),
        ("-", "stdin"),
    ],
)
def test_train_calls_a_run_by_its_text(source: str, name: str) -> None:
    assert name_of_text(source) == name


def test_train_says_that_a_pipe_is_not_read(here: Path) -> None:
    command = [sys.executable, "-m", "charlstm", "train", *QUICK[:-1], "--set", "data.sources=text.txt"]
    told = subprocess.run(command, cwd=here, input=b"a novel", capture_output=True, check=True).stderr.decode()
    assert told.startswith("standard input is a pipe that is not read: give - to train on it\n")


def test_train_makes_do_with_a_text_shorter_than_a_batch_and_says_so(here: Path) -> None:
    (here / "short.txt").write_text("the cat sat on the mat\n" * 9)
    said = charlstm("train", "short.txt", *QUICK[:-1], "--set", "model.hidden_size=20").stderr
    assert "are fewer than" not in said  # settings that are chosen fit
    assert "by heart" not in said
    by_hand = ("--set", "model.hidden_size=20", "--set", "model.dropout=0", "--set", "training.batch_size=16")
    said = charlstm("train", "tiny.yaml", "short.txt", "--run", "by-hand", *by_hand).stderr
    assert "the 165 characters to train on are fewer than 16 lanes of 16: training.batch_size is" in said
    assert "parameters can learn 165 characters by heart" in said  # of which tiny.yaml trains on fewer
    for folder in (Path("runs/short"), Path("by-hand")):
        training = runs.open_run(folder).settings.training
        assert training.batch_size * training.sequence_length < 165
    assert "by heart" not in charlstm("train", "tiny.yaml").stderr


def test_train_without_settings_chooses_them_says_so_and_records_them(here: Path) -> None:
    said = charlstm("train", "text.txt", "--set", "training.max_steps=3", "--set", "model.hidden_size=8").stderr
    (chosen,) = (line for line in said.splitlines() if line.startswith("chosen "))
    assert "batch_size 16" in chosen
    assert "dropout" in chosen
    assert "hidden_size" not in chosen
    settings = runs.open_run(here / "runs" / "text").settings
    assert settings.model.hidden_size == 8
    assert settings.training.batch_size == 16
    (here / "auto.yaml").write_text("data: {sources: [text.txt]}\nmodel: auto\ntraining: {max_steps: 3}\n")
    assert "chosen " in charlstm("train", "auto.yaml").stderr
    assert "training chooses" in charlstm("config", "show", "auto.yaml").stderr
    assert "chosen " not in charlstm("train", "tiny.yaml").stderr


def test_train_tells_no_options_over_the_sampling_settings_of_the_run() -> None:
    said = charlstm("train", "tiny.yaml", "--set", "training.max_steps=1", "--set", "sampling.temperature=1").stderr
    assert said.splitlines()[-1].startswith("sample with: charlstm sample --run runs/tiny")
    assert "--temp" not in said
