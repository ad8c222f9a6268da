"""Every kind of model goes the whole way of the command line: train, resume, sample or fill, evaluate, pass on."""

import json
from pathlib import Path

import pytest

from charlstm.cells import CELLS

from .commands import charlstm, write_settings

TEXT = "the cat sat on the mat, the rat sat on the cat.\n" * 60
SMALL = ["tiny.yaml", "--quiet", "--set", "training.max_steps=6"]
CLOZE = ["--set", "model.bidirectional=true", "--set", "model.objective=cloze"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path, TEXT)


@pytest.mark.parametrize("objective", [[], CLOZE], ids=["next", "cloze"])
@pytest.mark.parametrize("cell", CELLS)
def test_cli_every_cell_trains_resumes_samples_and_evaluates(cell: str, objective: list[str]) -> None:
    model = [*SMALL, *objective, "--set", f"model.cell={cell}"]
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


def test_cli_init_from_matches_symbols_by_character() -> None:
    charlstm("train", *SMALL, "--run", "first")
    Path("text.txt").write_text(TEXT.replace("c", "ж"))
    told = charlstm("train", *[word for word in SMALL if word != "--quiet"], "--init-from", "first", "--run", "second")
    assert "symbols matched, 1 added, 1 left behind" in told.stderr
    for change, said in (("hidden_size=9", "is 9, but 8"), ("skip_connections=false", "is False, but True")):
        to_third = ["--set", f"model.{change}", "--init-from", "first", "--run", "third"]
        told = charlstm("train", *SMALL, *to_third, expect=2)
        assert f"{said} in first: --init-from needs it the same" in told.stderr
    assert not Path("third").exists()
    charlstm("train", *SMALL, "--set", "model.cell=peephole", "--run", "peephole")
    inherits = ["--init-from", "peephole", "--set", "model.kernel=builtin", "--run", "third"]
    told = charlstm("train", "text.txt", "--set", "training.max_steps=3", *inherits, expect=2)
    assert "torch has no kernel for peephole" in told.stderr
    assert not Path("third").exists()
    told = charlstm("train", "text.txt", "--set", "training.max_steps=3", "--init-from", "first", "--run", "chosen")
    assert "symbols matched" in told.stderr
    assert "hidden_size" not in next(line for line in told.stderr.splitlines() if "chosen " in line)
