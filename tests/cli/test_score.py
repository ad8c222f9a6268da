"""`charlstm score` as a filter: every line once, in order, untouched; thresholds that keep their rate."""

import gzip
import json
import lzma
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from charlstm import api, runs
from charlstm.cli import line_streams
from charlstm.inference import GuessRanks
from charlstm.text import line_input

from .commands import charlstm, shell, write_settings

pytestmark = pytest.mark.usefixtures("here")
LINES = b"The tide\n\nThe clock went ba\xc3\xa9ck \xe2\x98\x83.\nThe tide\r\n\0\x1b[31m\xff\nThe tide"


def scores(result: object) -> list[float]:
    return [float(line.partition("\t")[0]) for line in result.stdout_bytes.decode("utf-8", "replace").split("\n")[:-1]]  # type: ignore[attr-defined]


def test_score_gives_each_line_its_number_in_order_and_untouched() -> None:
    told = charlstm("score", stdin=LINES)
    out = told.stdout_bytes.split(b"\n")
    assert [line.partition(b"\t")[2] for line in out] == [*LINES.split(b"\n"), b""]
    found = api.score(runs.open_run(), LINES.split(b"\n"))
    per_char = found.nats / math.log(2) / found.chars
    assert scores(told) == pytest.approx(per_char.tolist(), abs=5e-5)
    Path("lines.txt").write_bytes(LINES)
    assert charlstm("score", "lines.txt").stdout_bytes == told.stdout_bytes
    whole = charlstm("score", "--unit", "nats", "--normalize", "none", stdin=LINES)
    assert scores(whole) == pytest.approx(found.nats.tolist(), abs=5e-5)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_scores_of_parts_are_those_of_the_whole_in_turns(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_streams, "FIRST_LINES", 4)  # so that parts go on from window to window
    lines = [b"line %d %s" % (number, b"x" * (number % 5)) for number in range(23)]
    whole = charlstm("score", stdin=b"\n".join(lines)).stdout_bytes.splitlines()
    records = b"id,text\n" + b"".join(b'%d,"%s"\n' % each for each in enumerate(lines))
    table = charlstm("score", "--format", "csv", "--field", "text", stdin=records).stdout_bytes.splitlines()
    for part in range(parts):
        shard = ("--shard", f"{part + 1}/{parts}")
        assert charlstm("score", *shard, stdin=b"\n".join(lines)).stdout_bytes.splitlines() == whole[part::parts]
        own = charlstm("score", *shard, "--format", "csv", "--field", "text", stdin=records).stdout_bytes.splitlines()
        assert own == [table[0], *table[1:][part::parts]]
    assert "from 1/8 to 8/8" in charlstm("score", "--shard", "3/2", stdin=b"x", expect=2).stderr


@pytest.mark.parametrize(
    ("suffix", "pack"), [("gz", gzip.compress), ("xz", lzma.compress), ("zst", zstandard.compress)]
)
def test_score_reads_what_is_in_a_compressed_file(suffix: str, pack: Callable[[bytes], bytes]) -> None:
    Path(f"lines.{suffix}").write_bytes(pack(LINES * 3000))
    assert charlstm("score", f"lines.{suffix}").stdout_bytes == charlstm("score", stdin=LINES * 3000).stdout_bytes
    told = json.loads(charlstm("novelty", f"lines.{suffix}", "--json").stdout)
    assert told == json.loads(charlstm("novelty", "--json", stdin=LINES * 3000).stdout)
    Path(f"lines.{suffix}").write_bytes(pack(LINES * 3000)[:-9])
    assert "cut short" in charlstm("score", f"lines.{suffix}", expect=3).stderr


def test_score_of_a_stream_model_is_what_eval_measures() -> None:
    for line in (b"The tide", b"and clocks"):
        Path("line.txt").write_bytes(line + b"\n")
        told = json.loads(charlstm("eval", "line.txt", "--json").stdout)
        one = json.loads(charlstm("score", "--json", stdin=line).stdout)
        assert one["bits_per_char"] == pytest.approx(told["bits_per_char"], abs=1e-5)
        assert one["chars"] == len(line) + 1


def test_scores_of_a_model_of_documents_are_what_eval_measures_on_them() -> None:
    names = "".join(f"{a}{b}{c}\n" for a in "ABC" for b in "aeiou" for c in ("n", "nna", "lf", "rik"))
    Path("text.txt").write_text(names)
    charlstm("train", "tiny.yaml", "--run", "names", "--set", "data.documents=line", "--set", "training.batch_size=2")
    told = json.loads(charlstm("eval", "--run", "names", "--json").stdout)
    lines = runs.read_lines(runs.open_run(Path("names")), "val", 10**6)
    found = api.score(runs.open_run(Path("names")), lines)
    assert len(lines) == told["documents"]
    assert found.chars.sum() == told["chars"]
    assert found.nats.mean() == pytest.approx(told["nats_per_document"], rel=1e-5)
    assert found.chars.tolist() == [len(line) + 1 for line in lines]
    ranked = charlstm("score", "--run", "names", "--guess-rank", stdin="Anna\nzzzzzz\n").stdout
    first, second = (float(line.partition("\t")[0]) for line in ranked.splitlines())
    assert first < second
    copied = json.loads(charlstm("novelty", "--run", "names", "--json", stdin=names).stdout)
    assert copied["copied_documents"] == pytest.approx(0.8, abs=0.02)  # the share that was trained on


def test_score_json_has_every_figure() -> None:
    rows = [json.loads(line) for line in charlstm("score", "--json", "--chars", stdin=LINES).stdout_bytes.splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5, 6]
    known = set(runs.open_run().vocab.symbols)
    assert [row["unknown"] for row in rows] == [sum(c not in known for c in row["text"]) for row in rows]
    assert [row["unknown"] > 0 for row in rows] == [False, False, True, True, True, False]
    for row in rows:
        assert row["bits"] == pytest.approx(row["nats"] / math.log(2), rel=1e-4)
        assert row["score"] == row["bits_per_char"] == pytest.approx(row["bits"] / row["chars"], rel=1e-4)
        assert sum(row["surprisals"]) == pytest.approx(row["bits"], abs=1e-2)
        assert len(row["surprisals"]) == row["chars"] == len(row["text"]) + 1


def test_score_adds_to_records_and_counts_those_that_it_cannot_read() -> None:
    objects = b'{"id": 1.0, "text": "The tide"}\n{"id": 2\n{"id": 3, "text": "zzz"}\n'
    error = charlstm("score", "--format", "jsonl", "--field", "text", stdin=objects, expect=3).stderr
    assert error.startswith("charlstm: standard input: line 2 is not JSON")
    told = charlstm("score", "--format", "jsonl", "--field", "text", "--skip-bad", "--as", "odd", stdin=objects)
    first, second = told.stdout.splitlines()
    assert first.startswith('{"id": 1.0, "text": "The tide", "odd": ')
    assert json.loads(second)["id"] == 3
    assert told.stderr.startswith(
        "records left out, as they cannot be read: 1; the first: standard input: line 2 is not JSON"
    )
    table = 'id,text\n1,"The\ntide"\n2,zzz\n'
    out = charlstm("score", "--format", "csv", "--field", "text", stdin=table).stdout
    assert out.startswith('id,text,score\n1,"The\ntide",')
    assert out.count("\n") == 4
    kept = charlstm("score", "--format", "csv", "--field", "text", "--above", 1e9, stdin=table)
    assert kept.stdout == "id,text,score\n"
    assert charlstm("score", "--format", "csv", "--field", "text", stdin="id,text\n").stdout == "id,text,score\n"
    shutil.copytree("runs/tiny", "runs/second")
    both = ["--run", "tiny", "--run", "second", "--format", "csv", "--field", "text"]
    assert charlstm("classify", *both, stdin="id,text\n").stdout == "id,text,run,run_posterior\n"


def test_score_filters_by_what_it_prints() -> None:
    lines = "".join(f"The {word}\n" for word in ["tide", "clock", "qqq", "xyzzy", "a", "the", "zzzz", "tide"])
    every = charlstm("score", stdin=lines).stdout.splitlines(keepends=True)
    values = [float(line.split()[0]) for line in every]
    middle = sorted(values)[4] + 1e-4  # more than what is printed was rounded by
    above = [line for line, value in zip(every, values, strict=True) if value > middle]
    below = [line for line, value in zip(every, values, strict=True) if value < middle]
    assert charlstm("score", "--above", middle, stdin=lines).stdout == "".join(above)
    assert charlstm("score", "--below", middle, stdin=lines).stdout == "".join(below)
    top = charlstm("score", "--top", 3, stdin=lines).stdout.splitlines(keepends=True)
    assert top == sorted(every, key=lambda line: -float(line.split()[0]))[:3]


def test_score_worst_keeps_its_rate_on_other_lines_and_can_be_stored() -> None:
    rng = np.random.default_rng(1)
    words = (Path("text.txt").read_text()).split()
    usual, other = ("".join(" ".join(rng.choice(words, 4)) + "\n" for _ in range(1500)) for _ in range(2))
    Path("usual.txt").write_text(usual)
    told = charlstm("score", "--worst", 0.05, "--calibrate", "usual.txt", "--store", stdin=other)
    kept = told.stdout.count("\n") / 1500
    assert 0.02 < kept < 0.09, kept
    assert "threshold" in told.stderr
    again = charlstm("score", "--worst", 0.05, stdin=other)
    assert again.stdout == told.stdout
    Path("blanks.txt").write_text(usual.replace("\n", "\n\n"))
    double_spaced = "\n\r\n" + other.replace("\n", "\n\n")
    blanks = charlstm("score", "--worst", 0.05, "--calibrate", "blanks.txt", stdin=double_spaced)
    assert blanks.stdout == told.stdout  # an empty line is no document: it neither counts nor passes
    assert charlstm("score", "--worst", 0.0001, stdin="The tide\n").stderr.count("tell no share below") == 1
    (calibration,) = Path("runs").glob("*/calibration.json")
    whole = calibration.read_bytes()
    figure = whole.index(b'"nats":[') + len(b'"nats":[')
    other_figure = b"7" if whole[figure : figure + 1] != b"7" else b"8"
    for damaged in (b"{}", whole[:figure] + other_figure + whole[figure + 1 :]):
        calibration.write_bytes(damaged)
        assert "is damaged" in charlstm("score", "--worst", 0.05, stdin=other, expect=4).stderr
    calibration.unlink()
    assert "of the validation text" in charlstm("score", "--worst", 0.05, stdin="The tide\n").stderr


def test_score_against_another_run_is_the_difference_of_both() -> None:
    charlstm("train", "tiny.yaml", "--run", "other", "--set", "training.max_steps=3")
    lines = "The tide\nzzz\n"
    one, other = (
        [
            json.loads(line)["bits"]
            for line in charlstm("score", "--json", "--run", run, stdin=lines).stdout.splitlines()
        ]
        for run in ("tiny", "other")
    )
    ratio = scores(charlstm("score", "--run", "tiny", "--against", "other", stdin=lines))
    assert ratio == pytest.approx([b - a for a, b in zip(one, other, strict=True)], abs=1e-3)
    told = charlstm("classify", "--run", "tiny", "--run", "other", "--prior", "other=3", "--json", stdin=lines)
    for row, bits in zip(map(json.loads, told.stdout.splitlines()), ratio, strict=True):
        assert row["posteriors"]["tiny"] == pytest.approx(1 / (1 + 3 * 2**-bits), abs=1e-3)
        assert row["run"] == max(row["posteriors"], key=row["posteriors"].get)
    plain = charlstm("classify", "--run", "tiny", "--run", "other", stdin=lines).stdout.splitlines()
    assert [line.split("\t")[2] for line in plain] == lines.splitlines()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--worst", 0.1, "--guess-rank"], 2),
        (["--worst", 1.5], 2),
        (["--worst", "nan"], 2),
        (["--worst", 0.5, "--calibrate", "-"], 2),
        (["--above", "nan"], 2),
        (["--above", 2, "--below", 1], 2),
        (["--chars"], 2),
        (["--format", "csv"], 2),
        (["--field", "a"], 2),
        (["--store"], 2),
        (["--against", "nowhere"], 4),
        (["nowhere.txt"], 3),
        (["--json", "--format", "csv", "--field", "a"], 2),
    ],
)
def test_score_refuses_in_a_sentence_what_does_not_go_together(options: list[object], code: int) -> None:
    error = charlstm("score", *options, stdin=b"a\n", expect=code).stderr
    assert error.startswith("charlstm: ")
    assert error.count("\n") == 1


def test_classify_needs_different_runs_and_priors_that_are_numbers() -> None:
    assert "twice" in charlstm("classify", "--run", "tiny", stdin="a\n", expect=2).stderr
    shutil.copytree("runs/tiny", "runs/twin")
    for prior in ("tiny", "tiny=-1", "nobody=1", "tiny=x"):
        told = charlstm("classify", "--run", "tiny", "--run", "twin", "--prior", prior, stdin="a\n", expect=2)
        assert "--prior" in told.stderr
    options = ["--run", "tiny", "--run", "twin", "--run", "./runs/tiny"]
    repeated = charlstm("classify", *options, stdin="a\n", expect=2)
    assert "names runs/tiny twice" in repeated.stderr


def test_score_writes_the_same_bytes_however_lines_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"".join(b"The %d clock%s\n" % (n, b" went back" * (n % 7)) for n in range(300))
    whole = charlstm("score", stdin=lines).stdout_bytes
    for name, value in (("FIRST_LINES", 1), ("MOST_LINES", 3), ("MOST_BYTES", 10)):
        monkeypatch.setattr(line_streams, name, value)
        assert charlstm("score", stdin=lines).stdout_bytes == whole
    monkeypatch.setattr(line_input, "LONG_BYTES", 60)
    monkeypatch.setattr(line_input, "CHUNK_BYTES", 17)
    again = charlstm("score", "--unit", "nats", stdin=lines).stdout_bytes.splitlines()
    for shown, line in zip(again, lines.splitlines(), strict=True):
        score, _, passed = shown.partition(b"\t")
        head = api.score(runs.open_run(), [line[:60]])
        nats, chars = head.nats[0], head.chars[0]
        if len(line) > 60:  # its end is not read
            nats, chars = nats - head.nats_of_symbols[-1], chars - 1
        assert passed == line
        assert float(score) == pytest.approx(nats / chars, abs=2e-4)


def test_score_answers_a_slow_producer_line_by_line_and_a_closed_pipe_ends_it() -> None:
    command = [sys.executable, "-W", "error", "-m", "charlstm", "score"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for line in (b"The tide\n", b"\n", b"The clock\n"):
        process.stdin.write(line)
        process.stdin.flush()
        assert process.stdout.readline().endswith(b"\t" + line)  # before anything else is written
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")
    ended = shell("yes 'The tide' | charlstm score | head -1; echo ${PIPESTATUS[1]}", Path.cwd())
    assert ended.stdout.splitlines()[1] == b"141"
    assert ended.stderr == b""


def test_score_interrupted_has_written_what_it_has_scored() -> None:
    command = [sys.executable, "-W", "error", "-m", "charlstm", "score"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"The tide\nThe clock\nhalf a li")
        process.stdin.flush()
        scored = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate()
    assert [line.partition(b"\t")[2] for line in scored] == [b"The tide\n", b"The clock\n"]
    assert (process.returncode, rest) == (130, b"")
    assert b"Traceback" not in errors


@pytest.mark.parametrize("command", ["score", "score --top 1", "classify --run tiny --run tiny-too"])
def test_a_command_that_waits_for_lines_ends_when_nobody_reads_its_own(command: str) -> None:
    shutil.copytree("runs/tiny", "runs/tiny-too", dirs_exist_ok=True)
    lines, producer = os.pipe()
    reader, output = os.pipe()
    program = [sys.executable, "-W", "error", "-m", "charlstm", *command.split()]
    with subprocess.Popen(program, stdin=lines, stdout=output, stderr=subprocess.PIPE) as process:
        for end in (lines, output):
            os.close(end)
        os.write(producer, b"The tide\n")
        if "--top" not in command:
            assert os.read(reader, 1000).endswith(b"\tThe tide\n")
        os.close(reader)
        try:
            assert process.wait(timeout=60) == 141  # while the producer may still write, as that of `tail -f` may
        finally:
            os.close(producer)
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_score_marks_unlikely_characters_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    told = charlstm("score", "--color", "always", stdin="The \N{SNOWMAN}\x1b[31m tide\n").stdout
    assert "\033[1;4m\N{SNOWMAN}" in told
    assert "\x1b[31m" not in told
    assert charlstm("score", "--color", "never", stdin="The \N{SNOWMAN}\n").stdout.endswith("The \N{SNOWMAN}\n")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in charlstm("score", stdin="\N{SNOWMAN}\n").stdout


def test_score_skips_a_byte_order_mark_and_refuses_utf_16() -> None:
    plain = charlstm("score", stdin="The tide\n").stdout
    assert charlstm("score", stdin=b"\xef\xbb\xbfThe tide\n").stdout == plain
    assert "UTF-16" in charlstm("score", stdin="The tide\n".encode("utf-16"), expect=3).stderr


def test_score_and_its_sisters_load_no_torch() -> None:
    shutil.copytree("runs/tiny", "runs/twin")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from charlstm.cli import app\n"
        "for line in sys.argv[1:]: app(line.split(), standalone_mode=False)"
    )
    lines = [
        "score text.txt",
        "classify text.txt --run tiny --run twin",
        "novelty text.txt",
        "score text.txt --worst 0.1",
    ]
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, *lines], capture_output=True, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_novelty_tells_copies_from_what_is_new_beside_the_validation_text() -> None:
    text = Path("text.txt").read_text()
    lines = text.split("\n")
    Path("copy.txt").write_text(lines[3] + "\n\N{SNOWMAN} is new\n")
    told = json.loads(charlstm("novelty", "copy.txt", "--json").stdout)
    assert told["longest_copy_chars"] >= len(lines[3])
    copied = Path("copy.txt").read_text()[told["longest_copy_at"] :][: told["longest_copy_chars"]]
    assert text[told["in_training_at"] :].startswith(copied)
    assert told["copied_lines"] == 0.5
    whole, cut = (json.loads(charlstm("novelty", "--json", stdin=f"{lines[3]}{end}").stdout) for end in ("\n", ""))
    assert (whole["chars"], cut["chars"]) == (len(lines[3]) + 1, len(lines[3]))
    assert whole["copied_lines"] == cut["copied_lines"] == 1
    assert 0 < told["copied_8_grams"] < 1
    assert told["validation"]["copied_8_grams"] < 0.9
    table = charlstm("novelty", "-", stdin=Path("copy.txt").read_text()).stdout
    assert "copied_lines" in table
    assert "validation" in table
    assert "bytes" in charlstm("novelty", "-", stdin="", expect=3).stderr


def test_score_keeps_lines_whose_guess_rank_is_beyond_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuessRanks, "estimate", lambda _ranks, nats: (np.full(len(nats), np.inf), np.zeros(len(nats))))
    assert scores(charlstm("score", "--guess-rank", stdin="The\ntide\n")) == [math.inf, math.inf]
    assert scores(charlstm("score", "--guess-rank", "--top", 1, stdin="The\ntide\n")) == [math.inf]
    assert scores(charlstm("score", "--guess-rank", "--above", 5, stdin="The\ntide\n")) == [math.inf, math.inf]
    assert scores(charlstm("score", "--guess-rank", "--below", 5, stdin="The\ntide\n")) == []


def test_score_worst_needs_a_validation_line_that_is_not_empty(tmp_path: Path) -> None:
    write_settings(tmp_path, b"the cat sat on the mat and " * 36 + b"so\n\r\n\non" + b" it went" * 5)
    train = ["train", tmp_path / "tiny.yaml", tmp_path / "text.txt", "--run", "lines", "--quiet"]
    charlstm(*train, "--set", "data.split=[0.95,0.05,0.0]")
    assert "are empty" in charlstm("score", "--run", "lines", "--worst", 0.1, stdin="the\n", expect=3).stderr


def test_classify_names_runs_whose_folders_are_no_utf8() -> None:
    name = os.fsdecode(b"other\xff")
    shutil.copytree("runs/tiny", f"runs/{name}")
    plain = charlstm("classify", "--run", "tiny", "--run", name, "--prior", "tiny=1e-9", stdin="The tide\n")
    assert plain.stdout_bytes.startswith(b"other\xff\t")
    told = charlstm("classify", "--run", "tiny", "--run", name, "--prior", "tiny=1e-9", "--json", stdin="The tide\n")
    assert json.loads(told.stdout)["run"] == "other?"
