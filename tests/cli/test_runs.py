"""`charlstm runs` lists what is here, and each command takes the newest run that it can use."""

import json
import math
import os
from pathlib import Path

import pytest

from charlstm import runs

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
