"""Runs on documents, from the command line: trained, measured, sampled, filled, begun from another run's weights."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from charlstm.runs import open_run, read_checkpoint, read_split

from ..small_runs import refuse_damage
from .commands import charlstm, metrics

pytestmark = pytest.mark.usefixtures("place")

SETTINGS = """\
data: {sources: [names.txt], documents: line, split: [0.8, 0.1, 0.1]}
model: {embedding_size: 6, hidden_size: 12, num_layers: 1}
training:
  {batch_size: 4, sequence_length: 16, max_steps: 30, validate_every_steps: 15, shards: 1, precision: fp32, device: cpu}
"""
NAMES = [first + middle + last for first in "kmjbt" for middle in ("a", "ee", "io") for last in ("", "n", "ra", "lis")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "cache"))
    Path("names.txt").write_text("\n".join([*NAMES, "ka", "kan"]) + "\n")
    Path("names.yaml").write_text(SETTINGS)
    return tmp_path


def test_documents_run_is_trained_measured_and_sampled_a_document_at_a_time() -> None:
    told = charlstm("train", "names.yaml", "--run", "runs/names").stderr
    assert "2 of the documents repeat earlier ones" in told
    (count,) = map(int, re.findall(r"documents to train, (\d+) to validate", told))
    assert 5 <= count <= 8  # a tenth of 62, up to the equal ones that stay together
    assert "is padding" in told
    validated = metrics(Path("runs/names"))[-1]
    figures = json.loads(charlstm("eval", "--json").stdout)
    assert figures["protocol"] == "documents"
    assert figures["documents"] == count
    assert figures["loss"] == pytest.approx(validated["val_loss"], rel=1e-5)
    assert figures["nats_per_document"] == pytest.approx(figures["loss"] * figures["chars"] / count)
    lines = charlstm("eval", "names.txt", "names.txt").stdout.splitlines()
    assert len(lines) == 4
    assert "ends of documents" in charlstm("eval").stdout
    texts = charlstm("sample", "--samples", 50, "--seed", 1, "-q").stdout.splitlines()
    assert len(texts) == 50
    assert max(map(len, texts)) < 40  # each ends before the 500 characters that are allowed
    assert all(set(text) <= set("".join(NAMES)) for text in texts)
    row = json.loads(charlstm("sample", "--json", "--seed", 1).stdout)
    assert row["text"] == texts[0]


def test_documents_resume_from_a_text_that_is_read_again(place: Path) -> None:
    charlstm("train", "names.yaml", "--run", "runs/whole")
    charlstm("train", "names.yaml", "--run", "runs/parts", "--set", "training.max_steps=7")
    for file in (place / "cache").glob("*.ids"):
        file.unlink()
    charlstm("train", "--resume", "runs/parts", "--set", "training.max_steps=30", "--trust-sources")
    assert refuse_damage(Path("runs/parts"))
    assert metrics(Path("runs/parts"))[-1]["chars"] == metrics(Path("runs/whole"))[-1]["chars"]


def test_documents_split_is_the_same_for_whoever_asks() -> None:
    charlstm("train", "names.yaml", "--run", "runs/names")
    run = open_run(Path("runs/names"))
    parts = [run.vocab.to_bytes(read_split(run, part)) for part in ("train", "val", "test")]
    assert [bytes(part) for part in parts] == [
        run.vocab.to_bytes(read_split(run, part)) for part in ("train", "val", "test")
    ]
    assert sum(map(len, parts)) == len("".join([*NAMES, "ka", "kan"]))


def test_documents_of_records_are_cut_alike_wherever_they_are_read() -> None:
    rows = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    Path("names.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("names.tsv").write_text("id\tname\n" + "".join(f"{row['id']}\t{row['name']}\n" for row in rows))
    common = ["names.yaml", "--set", "data.documents=record", "--set"]
    charlstm("train", *common, "data.field=name", "names.jsonl", "--run", "runs/json")
    charlstm("train", *common, "data.column=name", "names.tsv", "--run", "runs/table")
    figures = [
        {**json.loads(charlstm("eval", text, "--json", "--run", run).stdout), "text": None, "run": None}
        for text, run in (("names.jsonl", "runs/json"), ("names.tsv", "runs/table"))
    ]
    assert figures[0] == figures[1]
    assert figures[0]["documents"] == len(NAMES)
    broken = charlstm("eval", "names.tsv", "--run", "runs/json", expect=3).stderr
    assert "'names.tsv', line 1 is no JSON object" in broken


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.documents=record"], "neither data.field nor data.column is set"),
        (["data.documents=record", "data.field=a", "data.column=b"], "data.field and data.column are both set"),
        (["data.field=a"], "means something only where data.documents is record, not line"),
        (["training.beginning_lanes=1"], "must be auto or 0 where data.documents is line"),
    ],
)
def test_documents_settings_that_contradict_are_refused(overrides: list[str], message: str) -> None:
    options = [option for override in overrides for option in ("--set", override)]
    assert message in charlstm("train", "names.yaml", *options, expect=2).stderr


def test_documents_and_streams_are_measured_by_what_they_were_trained_for() -> None:
    charlstm("train", "names.yaml", "--run", "runs/names")
    charlstm("train", "names.yaml", "--set", "data.documents=stream", "--run", "runs/stream")
    by_line = json.loads(
        charlstm("eval", "names.txt", "--protocol", "documents", "--json", "--run", "runs/stream").stdout
    )
    of_documents = json.loads(charlstm("eval", "names.txt", "--json", "--run", "runs/names").stdout)
    assert by_line["chars"] == of_documents["chars"]
    assert by_line["documents"] == of_documents["documents"]
    refused = charlstm("eval", "--protocol", "stream", "--run", "runs/names", expect=2).stderr
    assert "is evaluated by the protocol documents, not stream" in refused
    refused = charlstm("eval", "names.txt", "--dynamic", "--run", "runs/names", expect=2).stderr
    assert "trained on documents" in refused


def test_documents_begin_from_the_weights_of_a_stream_and_the_other_way_round() -> None:
    stream = ["--set", "data.documents=stream"]
    charlstm("train", "names.yaml", *stream, "--run", "runs/stream")
    told = charlstm("train", "names.yaml", "--init-from", "runs/stream", "--run", "runs/names").stderr
    symbols = len(set("".join(NAMES)))
    assert f"{symbols} symbols matched, 1 added, 1 left behind" in " ".join(told.split())
    again = charlstm("train", "names.yaml", "--init-from", "runs/names", "--run", "runs/more").stderr
    assert f"{symbols + 1} symbols matched, 0 added, 0 left behind" in " ".join(again.split())
    first, fresh = metrics(Path("runs/more"))[0]["loss"], metrics(Path("runs/names"))[0]["loss"]
    assert first < fresh
    charlstm("train", "names.yaml", *stream, "--init-from", "runs/names", "--run", "runs/back")


def test_documents_gaps_are_filled_within_a_document() -> None:
    cloze = ["--set", "model.objective=cloze", "--set", "model.bidirectional=true"]
    charlstm("train", "names.yaml", *cloze, "--run", "runs/cloze")
    figures = json.loads(charlstm("eval", "--json", "--run", "runs/cloze").stdout)
    assert figures["cloze_loss"] == pytest.approx(metrics(Path("runs/cloze"))[-1]["val_cloze_loss"], rel=1e-5)
    filled = charlstm("fill", "--run", "runs/cloze", stdin="k_n").stdout
    assert len(filled) == 3
    for end in (b"\n", b"\r\n"):
        assert charlstm("fill", "--run", "runs/cloze", stdin=b"k_n" + end).stdout_bytes == filled.encode() + end
    assert "unknown to the vocabulary" in charlstm("fill", "--run", "runs/cloze", stdin="k_n\n\n", expect=3).stderr
    weights = read_checkpoint(open_run(Path("runs/cloze")), "best", model_only=True).weights
    assert weights["output.bias"].shape == (open_run(Path("runs/cloze")).vocab.size,)


def test_documents_are_looked_into_each_from_its_beginning() -> None:
    charlstm("train", "names.yaml", "--run", "runs/names")
    charlstm("inspect", "names.txt", "--npz", "x.npz", "--html", "x.html")
    with np.load("x.npz") as loaded:
        arrays = dict(loaded)
    ids, text = arrays["ids"], str(arrays["text"])
    assert text == "\n".join([*NAMES, "ka", "kan", ""])
    ends = np.flatnonzero(ids == ids[-1])
    firsts = [(name[0], arrays["h"][end + 1]) for name, end in zip([*NAMES[1:], "ka", "kan"], ends, strict=False)]
    assert len({(letter, state.tobytes()) for letter, state in firsts}) == len({letter for letter, _ in firsts})


def test_documents_that_are_few_get_a_smaller_batch() -> None:
    told = charlstm("train", "names.yaml", "--set", "training.batch_size=64", "--run", "runs/small").stderr
    assert "characters to train on are few: training.batch_size is 2 instead of 64" in " ".join(told.split())


def test_documents_in_order_warn_of_what_is_trained_and_validated_on() -> None:
    Path("log.txt").write_text("start\nwork\nwork\nstop\n" * 20)
    told = charlstm("train", "names.yaml", "log.txt", "--set", "data.shuffle=false", "--run", "runs/log").stderr
    assert "though they are trained on, which flatters" in " ".join(told.split())
    dropped = charlstm(
        "train", "names.yaml", "names.txt", "--set", "data.deduplicate=drop", "--run", "runs/drop"
    ).stderr
    assert "2 of the documents repeat earlier ones: they are left out" in " ".join(dropped.split())
