"""`charlstm runs` lists what is here, and each command takes the newest run that it can use."""

import json
import math
import os
import sys
from pathlib import Path

import pytest

from charlstm import runs
from charlstm.runs import listing

from .commands import STEPS, charlstm

pytestmark = pytest.mark.usefixtures("here")

CLOZE = ("--set", "model.bidirectional=true", "--set", "model.objective=cloze")


@pytest.fixture
def cloze_run(here: Path) -> Path:
    """A run that fills gaps, newer than the other."""
    charlstm("train", "tiny.yaml", "--run", "runs/gaps", *CLOZE, "--quiet")
    os.utime(here / "runs/gaps/vocab.json", (2e9, 2e9))
    return here / "runs/gaps"


@pytest.mark.usefixtures("cloze_run")
def test_runs_are_listed_newest_first_with_their_figures() -> None:
    listed = [json.loads(line) for line in charlstm("runs", "--json").stdout.splitlines()]
    assert [run["name"] for run in listed] == ["gaps", "tiny"]
    gaps, tiny = listed
    best = runs.read_checkpoint(runs.open_run(Path("runs/tiny")), "best").progress.best_loss
    assert best is not None
    assert tiny["bits_per_char"] == pytest.approx(best / math.log(2))
    assert "bits_per_char" not in gaps
    assert gaps["cloze_bits_per_char"] > 0
    assert (tiny["step"], tiny["cell"], tiny["num_layers"], tiny["hidden_size"]) == (STEPS, "lstm", 2, 8)
    assert tiny["parameters"] == sum(
        array.size for array in runs.read_checkpoint(runs.open_run(Path("runs/tiny")), "best").weights.values()
    )
    assert tiny["bytes"] == sum(path.stat().st_size for path in Path("runs/tiny").rglob("*") if path.is_file())
    assert Path(tiny["sources"][0]).name == "text.txt"
    assert gaps["began"].startswith("2033-05-1")


def test_runs_table_says_the_same_and_leaves_out_what_cannot_be_read(cloze_run: Path) -> None:
    Path("runs/foreign").mkdir()
    (cloze_run / "vocab.json").write_text("[")
    result = charlstm("runs")
    head, row = result.stdout.splitlines()
    assert head.split() == ["name", "began", "text", "model", "step", "bits", "size"]
    assert row.split()[0] == "tiny"
    assert "text.txt  lstm 2 × 8  12" in row
    assert row.endswith(" MB")
    assert result.stderr.startswith("left out: runs/gaps/vocab.json")
    assert "foreign" not in result.stderr


def test_runs_that_cannot_be_read_are_left_out_and_the_others_are_not(cloze_run: Path) -> None:
    (cloze_run / "checkpoints").rename("moved")
    (cloze_run / "checkpoints").write_text("no folder")
    Path("runs/unreadable").symlink_to("x" * 300)  # which nobody can look into, not even root
    result = charlstm("runs")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["name", "tiny"]
    problems = [line.removeprefix("left out: could not read ") for line in result.stderr.splitlines()]
    assert sorted(problem.partition(":")[0] for problem in problems) == ["runs/gaps/checkpoints", "runs/unreadable"]
    assert charlstm("sample", "--length", "3").exit_code == 0
    assert charlstm("sample", "--run", "unreadable", expect=4).stdout == ""


def test_runs_with_folders_nested_more_deeply_than_calls_end_no_listing() -> None:
    nested = [f"runs/tiny{'/d' * depth}" for depth in range(1, sys.getrecursionlimit() + 100)]
    try:
        for folder in nested:
            os.mkdir(folder)
        result = charlstm("runs")
    finally:  # shutil.rmtree recurses before Python 3.13
        for folder in reversed(nested):
            os.rmdir(folder)
    assert "tiny" in result.stdout + result.stderr  # left out where Python recurses


@pytest.mark.parametrize("seconds", [1e12, -1e12])
def test_runs_of_a_time_without_a_date_are_listed(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "began_at", lambda _: seconds)  # not every file system holds such times
    assert json.loads(charlstm("runs", "--json").stdout)["began"] is None
    assert charlstm("runs").stdout.splitlines()[1].split()[1] == "unknown"


def test_runs_with_a_lone_surrogate_in_a_source_are_listed() -> None:
    _, _, lines = Path("runs/tiny/config.yaml").read_text().partition("\n")
    source = runs.open_run(Path("runs/tiny")).settings.data.sources[0]
    Path("runs/tiny/config.yaml").write_text(lines.replace(source, '"\\ud800.txt"'))
    assert json.loads(charlstm("runs", "--json").stdout)["sources"] == ["\ud800.txt"]
    assert "ud800.txt" in charlstm("runs").stdout


def test_runs_elsewhere_are_listed_if_they_are_the_newest_and_none_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charlstm("train", "tiny.yaml", "--run", "beside", "--quiet")
    listed = [json.loads(line)["folder"] for line in charlstm("runs", "--json").stdout.splitlines()]
    assert listed == ["beside", "runs/tiny"]
    monkeypatch.chdir(tmp_path)
    empty = charlstm("runs")
    assert empty.stdout == ""
    assert "there are no runs here" in empty.stderr


@pytest.mark.usefixtures("cloze_run")
def test_commands_take_the_newest_run_that_they_can_use_and_say_so() -> None:
    told = "taking runs/tiny, the newest run that predicts the next character\n"
    assert charlstm("sample", "--seed", 1, "--length", 5).stderr == told
    assert charlstm("sample", "--seed", 1, "--length", 5, "--quiet").stderr == ""
    assert charlstm("sample", "--seed", 1, "--length", 5, "--run", "tiny").stderr == ""
    assert told in charlstm("inspect", "--html", "inside.html").stderr
    assert charlstm("fill", stdin="T_e").stderr == ""
    assert "cloze_bits_per_char" in charlstm("eval").stdout


def test_commands_find_a_run_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = ["sample", "--seed", 1, "--length", 30]
    by_path = charlstm(*sample, "--run", "runs/tiny").stdout
    assert charlstm(*sample, "--run", "tiny").stdout == by_path
    assert "has reached training.max_steps" in charlstm("train", "--resume", "tiny").stderr
    assert "tiny, training" in charlstm("plot", "tiny").stdout
    monkeypatch.setenv("CHARLSTM_RUN", "tiny")
    assert charlstm(*sample).stdout == by_path
    assert "nope is not a run folder" in charlstm(*sample, "--run", "nope", expect=4).stderr
