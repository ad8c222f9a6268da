"""`charlstm eval`: the promised figures, always the same."""

import base64
import json
import math
from pathlib import Path

import pytest

from charlstm import evaluate_dynamic
from charlstm.evaluation import Tally, dynamic
from charlstm.runs import open_run, read_metrics, read_split

from ..small_runs import contents
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


@pytest.fixture
def quick_dynamic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "TUNING_CHARS", 200)
    monkeypatch.setattr(dynamic, "RATES", (1e-4, 1e-3))
    monkeypatch.setattr(dynamic, "DECAYS", (1e-3,))


@pytest.mark.usefixtures("quick_dynamic")
def test_eval_dynamic_has_figures_of_its_own_and_leaves_the_run_as_it_is() -> None:
    before = contents(Path("runs"))
    row, plain = (json.loads(charlstm("eval", *options, "--json").stdout) for options in (["--dynamic"], []))
    assert contents(Path("runs")) == before
    assert list(row)[:4] == ["dynamic_loss", "dynamic_bits_per_char", "dynamic_perplexity", "dynamic_accuracy"]
    assert (row["protocol"], row["split"], row["chars"]) == ("dynamic", "val", plain["chars"])
    assert (row["rate"], row["decay"], row["tuned_split"], row["tuned_chars"]) == (1e-3, 1e-3, "train", 200)
    assert row["dynamic_loss"] < plain["loss"]  # it has hardly been trained
    assert "loss" not in row
    run = open_run(Path("runs/tiny"))
    (found,) = evaluate_dynamic(run, [read_split(run, "val")], read_split(run, "train"))
    assert found.figures["dynamic_loss"] == row["dynamic_loss"]
    lines = charlstm("eval", "--dynamic").stdout.splitlines()
    assert f"dynamic_loss          {row['dynamic_loss']:.4f}" in lines
    assert "rate, decay           0.001, 0.001, tuned on 200 chars of the train split" in lines


@pytest.mark.usefixtures("quick_dynamic")
def test_eval_dynamic_of_several_texts_begins_each_anew() -> None:
    Path("other.txt").write_text(Path("text.txt").read_text()[:900])
    measure = ["eval", "--dynamic", "--json"]
    rows = [json.loads(line) for line in charlstm(*measure, "text.txt", "other.txt").stdout.splitlines()]
    alone = [json.loads(charlstm(*measure, text).stdout) for text in ("text.txt", "other.txt")]
    assert rows[:2] == alone
    nats = sum(row["dynamic_loss"] * row["chars"] for row in alone)
    assert rows[2]["dynamic_loss"] == pytest.approx(nats / rows[2]["chars"])


def test_eval_dynamic_is_of_runs_that_predict_the_next_character_and_of_texts_that_may_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cloze = ["--set", "model.bidirectional=true", "--set", "model.objective=cloze"]
    charlstm("train", "tiny.yaml", "--run", "gaps", *cloze)
    refused = charlstm("eval", "--run", "gaps", "--dynamic", expect=4).stderr
    assert "a run that predicts the next character is needed" in refused
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path))
    refused = charlstm("eval", "text.txt", "--dynamic", expect=4).stderr
    assert "--dynamic needs the text that the run was trained on, and runs/tiny was trained elsewhere" in refused
    assert "only read with --trust-sources" in refused


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


def test_eval_in_parts_gives_the_same_rows(here: Path) -> None:
    texts = []
    for number in range(4):
        texts.append(f"text{number}.txt")
        (here / texts[-1]).write_text((here / "text.txt").read_text()[number * 100 :][:700])
    rows = charlstm("eval", *texts, "--json").stdout.splitlines()
    parts = [charlstm("eval", *texts, "--json", "--shard", f"{part}/3").stdout.splitlines() for part in (1, 2, 3)]
    assert [parts[number % 3][number // 3] for number in range(4)] == rows[:4]
    assert sum(map(len, parts)) == 4
    assert charlstm("eval", *texts, "--json", "--shard", "5/5").stdout == ""
    assert "name some" in charlstm("eval", "--shard", "1/2", expect=2).stderr


def test_eval_of_documents_measures_a_last_line_without_its_end() -> None:
    ended, cut = (
        json.loads(charlstm("eval", "-", "--protocol", "documents", "--json", stdin=f"The tide\nThe{end}").stdout)
        for end in ("\n", "")
    )
    assert ended == cut
    assert ended["documents"] == 2
