"""`charlstm eval`: the promised figures, always the same."""

import base64
import json
import math
from pathlib import Path

import pytest

from charlstm.evaluation import Tally
from charlstm.runs import read_metrics

from .commands import charlstm, metrics

pytestmark = pytest.mark.usefixtures("here")


def test_eval_gives_the_promised_figures_and_always_the_same() -> None:
    first, second = (charlstm("eval", "--json").stdout for _ in range(2))
    assert first == second
    figures = json.loads(first)
    how = ["chars", "protocol", "lanes", "reread_chars", "skipped_chars", "replaced_chars", "split", "text", "run"]
    assert list(figures) == ["loss", "bits_per_char", "perplexity", "accuracy", *how]
    assert (figures["chars"], figures["protocol"], figures["split"]) == (600, "stream", "val")
    assert figures["loss"] == pytest.approx(metrics(Path("runs/tiny"))[-1]["val_loss"], rel=1e-5)
    assert json.loads(charlstm("eval", "--json", "--split", "test").stdout)["chars"] == 600
    assert json.loads(charlstm("eval", "--json", "--protocol", "windows").stdout)["protocol"] == "windows"
    named = json.loads(charlstm("eval", "text.txt", "--json").stdout)
    assert (named["split"], named["text"], named["run"]) == (None, "text.txt", "runs/tiny")


def test_eval_of_several_texts_gives_a_row_each_and_their_total() -> None:
    Path("other.txt").write_text(Path("text.txt").read_text()[:900])
    rows = [json.loads(line) for line in charlstm("eval", "text.txt", "other.txt", "--json").stdout.splitlines()]
    alone = [json.loads(charlstm("eval", text, "--json").stdout) for text in ("text.txt", "other.txt")]
    *each, total = rows
    assert each == alone
    assert (total["text"], total["split"], total["texts"]) == (None, None, 2)
    assert total["chars"] == alone[0]["chars"] + alone[1]["chars"]
    nats = sum(row["loss"] * row["chars"] for row in alone)
    assert total["loss"] == pytest.approx(nats / total["chars"])
    lines = charlstm("eval", "text.txt", "other.txt").stdout.splitlines()
    assert len(lines) == 4
    assert [line.split("  ")[-1] for line in lines] == ["text", "text.txt", "other.txt", "all of them"]
    assert f"{total['loss']:.4f}" in lines[-1]


@pytest.mark.parametrize(("policy", "counts"), [("skip", (2, 0)), ("replace", (0, 2))])
def test_eval_counts_what_it_skipped_or_replaced(policy: str, counts: tuple[int, int]) -> None:
    charlstm("train", "tiny.yaml", "--set", f"data.unknown={policy}", "--set", "training.max_steps=2")
    row = json.loads(charlstm("eval", "-", "--json", stdin="the tide ЖЖ\n".encode()).stdout)
    assert (row["skipped_chars"], row["replaced_chars"]) == counts
    assert f"{policy[:4]}" in charlstm("eval", "-", stdin="the tide ЖЖ\n".encode()).stdout


def test_eval_and_sample_of_a_diverged_model_write_valid_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tally, "loss", math.nan)
    result = charlstm("eval", "--json")
    row = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (row["loss"], row["bits_per_char"]) == (None, None)
    assert "no finite number, so null; the model has diverged" in result.stderr


def test_byte_and_cloze_runs_have_figures_of_their_own() -> None:
    Path("bytes.bin").write_bytes(bytes(range(256)) * 8)
    of_bytes = ["--set", "data.sources=bytes.bin", "--set", "data.unit=byte"]
    told = charlstm(
        "train",
        "tiny.yaml",
        *of_bytes,
        "--run",
        "b",
        "--set",
        "model.bidirectional=true",
        "--set",
        "model.objective=cloze",
    )
    assert "val_cloze_loss" in told.stderr
    assert "cloze_bits/byte" in told.stderr
    assert "cloze bits per byte" in told.stderr
    row = metrics(Path("b"))[-1]
    assert {"cloze_loss", "cloze_bits_per_byte", "val_cloze_bits_per_byte", "val_cloze_accuracy", "bytes"} <= row.keys()
    assert not any("char" in name for name in row)
    evaluated = json.loads(charlstm("eval", "--run", "b", "--json").stdout)
    assert evaluated["cloze_loss"] == pytest.approx(row["val_cloze_loss"], rel=1e-5)
    assert {"bytes", "cloze_bits_per_byte"} <= evaluated.keys()
    assert not any("char" in name for name in evaluated)
    assert read_metrics(Path("b"))[-1].val_loss == row["val_cloze_loss"]
    charlstm("train", "tiny.yaml", *of_bytes, "--run", "c")
    for line in charlstm(
        "sample", "--run", "c", "--samples", 3, "--json", "--temp", 5, "--prompt", "a"
    ).stdout.splitlines():
        one = json.loads(line)
        raw = base64.b64decode(one["base64"])
        assert raw.decode("utf-8", "replace") == one["text"]
        assert len(raw) == 501
