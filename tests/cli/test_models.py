"""Every kind of model goes the whole way of the command line: train, resume, sample or fill, evaluate, pass on."""

import json
from pathlib import Path
from typing import Any

import pytest

from charlstm import runs
from charlstm.cells import CELLS

from ..small_runs import bits
from .commands import charlstm

TEXT = "the cat sat on the mat, the rat sat on the cat.\n" * 60
SMALL = [
    *("--set", "data.sources=text.txt", "--set", "model.hidden_size=8", "--set", "model.embedding_size=5"),
    *("--set", "training.batch_size=4", "--set", "training.sequence_length=16", "--set", "training.max_steps=6"),
    *("--set", "training.precision=fp32", "--set", "training.threads=1", "--set", "training.device=cpu", "--quiet"),
]
CLOZE = ["--set", "model.bidirectional=true", "--set", "model.objective=cloze"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)


def arrays(folder: str) -> tuple[Any, ...]:
    """Every bit of the newest weights and training state."""
    return bits(runs.read_checkpoint(runs.open_run(Path(folder)), "latest"))[1:3]


@pytest.mark.parametrize("objective", [[], CLOZE], ids=["next", "cloze"])
@pytest.mark.parametrize("kernel", ["auto", "unrolled"])
@pytest.mark.parametrize("cell", CELLS)
def test_cli_every_cell_trains_resumes_samples_and_evaluates(cell: str, kernel: str, objective: list[str]) -> None:
    model = [*SMALL, *objective, "--set", f"model.cell={cell}", "--set", f"model.kernel={kernel}"]
    charlstm("train", *model, "--run", "halves", "--set", "training.max_steps=3")
    charlstm("train", "--resume", "halves", "--set", "training.max_steps=6", "--quiet")
    figures = json.loads(charlstm("eval", "--run", "halves", "--json").stdout)
    if objective:
        filled = charlstm("fill", "--run", "halves", stdin="the c_t sat on t_e mat\n").stdout
        assert len(filled) == len("the c_t sat on t_e mat\n")
        assert filled.startswith("the c")
        assert "_" not in filled
        assert figures["cloze_loss"] > 0
        assert "loss" not in figures
        sample = charlstm("sample", "--run", "halves", expect=4)
        assert "charlstm fill" in sample.stderr
        assert sample.stdout == ""
    else:
        assert len(charlstm("sample", "--run", "halves", "--length", "30", "--seed", "1").stdout.rstrip("\n")) <= 30
        assert figures["loss"] > 0
        assert "cloze" not in charlstm("fill", "--run", "halves", stdin="a_b", expect=4).stdout


@pytest.mark.parametrize("cell", CELLS)
def test_cli_every_cell_resumed_ends_with_the_same_bits(cell: str) -> None:
    model = [*SMALL, "--set", f"model.cell={cell}", "--set", "training.schedule=constant"]
    charlstm("train", *model, "--run", "whole")
    charlstm("train", *model, "--set", "training.max_steps=3", "--run", "halves")
    charlstm("train", "--resume", "halves", "--set", "training.max_steps=6", "--quiet")
    assert arrays("halves") == arrays("whole")


def test_cli_init_from_matches_symbols_by_character() -> None:
    charlstm("train", *SMALL, "--run", "first")
    Path("text.txt").write_text(TEXT.replace("c", "ж"))
    told = charlstm("train", *[word for word in SMALL if word != "--quiet"], "--init-from", "first", "--run", "second")
    assert "symbols matched, 1 added, 1 left behind" in told.stderr
    other = charlstm(
        "train", *SMALL, "--set", "model.hidden_size=9", "--init-from", "first", "--run", "third", expect=2
    )
    assert "model.hidden_size is 9, but 8 in first" in other.stderr
    assert not Path("third").exists()
