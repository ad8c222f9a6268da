"""`charlstm sample` for documents and lines: whole, valid, new, the likeliest; or one sentence and an exit code."""

import csv
import json
import re
from pathlib import Path
from random import Random

import pytest

from charlstm.inference.documents import FEWEST_MISSES

from .commands import charlstm, write_settings

NAMES = sorted({"".join(Random(number).choices("abdeé", k=2 + number % 4)).capitalize() for number in range(300)})
ROWS = [
    f'{city},"{street}, {number}",{number % 7}' for number in range(60) for city, street in (("Ax", "r"), ("Yz", "s"))
]
STREAM, DOCUMENTS, TABLE, PARAGRAPHS = "stream", "names", "rows", "paragraphs"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    """A folder with four runs: a stream of lines, documents, rows, paragraphs; and settings for one without lines."""
    folder = tmp_path_factory.mktemp("documents")
    texts = {STREAM: NAMES, DOCUMENTS: NAMES, TABLE: ROWS, PARAGRAPHS: ["ab\nba\n"] * 200}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CHARLSTM_CACHE", str(session_cache))
        for name, lines in texts.items():
            write_settings(folder, "\n".join(lines) + "\n", steps=6)
            (folder / "text.txt").rename(folder / f"{name}.txt")
            kind = {STREAM: "stream", PARAGRAPHS: "paragraph"}.get(name, "line")
            how = [
                f"data.sources={name}.txt",
                f"data.documents={kind}",
                "sampling.temperature=1",
                "sampling.top_k=null",
            ]
            charlstm("train", "tiny.yaml", "--run", name, *(each for one in how for each in ("--set", one)))
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def lines_of(run: str, *how: object) -> list[str]:
    return charlstm("sample", "--run", run, "--seed", 1, *how).stdout.splitlines()


@pytest.mark.parametrize("run", [STREAM, DOCUMENTS])
def test_sample_writes_as_many_lines_as_were_asked_for(run: str) -> None:
    how = [] if run == DOCUMENTS else ["--lines"]
    told = charlstm("sample", "--run", run, "--seed", 1, "--samples", 120, "-n", 9, *how)
    assert told.stdout.count("\n") == 120
    assert max(map(len, told.stdout.split("\n"))) == 9
    assert re.fullmatch(r"left out: [\d,]+ unfinished\n", told.stderr)
    assert lines_of(run, "--samples", 30, "-n", 9, *how) == told.stdout.splitlines()[:30]
    assert charlstm("sample", "--run", run, "--seed", 1, "-n", 9, "-q", *how).stderr == ""


def test_sample_tells_the_seed_it_draws() -> None:
    sample = ["sample", "--run", DOCUMENTS, "--samples", 5, "--match", ".{,9}"]
    first = charlstm(*sample)
    seed = first.stderr.removeprefix("seed ").strip()
    assert charlstm(*sample, "--seed", seed).stdout == first.stdout


@pytest.mark.parametrize("run", [STREAM, DOCUMENTS])
def test_sample_new_and_unique_are_neither_known_nor_repeated(run: str) -> None:
    short = ["--match", "[A-Z][a-zé]{1,2}"]
    usual = lines_of(run, "--samples", 300, *short)
    assert set(usual) & set(NAMES)
    assert len(set(usual)) < 300
    found = lines_of(run, "--samples", 40, "--new", "--unique", *short)
    assert len(set(found)) == 40
    assert not set(found) & set(NAMES)
    told = charlstm("sample", "--run", run, "--seed", 1, "--samples", 40, "--new", *short).stderr
    assert re.fullmatch(r"left out: \d+ known from the text\n", told)


def test_sample_that_finds_too_few_gives_those_and_says_why() -> None:
    told = charlstm("sample", "--run", DOCUMENTS, "--seed", 1, "--match", "A|B|D", "--unique", "--samples", 4, expect=4)
    assert sorted(told.stdout.split()) == ["A", "B", "D"]
    assert f"only 3 of 4 were found, then {FEWEST_MISSES:,} in a row were left out" in told.stderr
    told = charlstm("sample", "--run", DOCUMENTS, "--best", 4, "--match", "A|B|D", expect=4)
    assert told.stdout.count("\n") == 3
    assert "there are only 3 of 4" in told.stderr


def test_sample_begins_and_ends_as_asked() -> None:
    found = lines_of(DOCUMENTS, "--prefix", "Ab", "--suffix", "é", "-n", 12, "--samples", 40)
    assert all(one.startswith("Ab") and one.endswith("é") and len(one) <= 14 for one in found)
    alone = lines_of(DOCUMENTS, "--prefix", "Ab", "--match", "Ab(a|d)+", "-n", 12, "--samples", 40)
    assert all(re.fullmatch("Ab(a|d)+", one) for one in alone)


def test_sample_best_are_the_likeliest_with_their_probabilities() -> None:
    told = charlstm("sample", "--run", DOCUMENTS, "--best", 20, "-n", 4)
    rows = [line.split("\t") for line in told.stdout.splitlines()]
    shares = [float(share) for share, _ in rows]
    assert shares == sorted(shares, reverse=True)
    assert len({text for _, text in rows}) == 20
    count, mass = re.fullmatch(r"(\d+) documents, (\S+) of the probability\n(?:left out.*\n)?", told.stderr).groups()
    assert (int(count), float(mass)) == (20, pytest.approx(sum(shares), rel=1e-4))
    objects = [json.loads(line) for line in lines_of_best("--best", 20, "-n", 4, "--json")]
    assert [one["text"] for one in objects] == [text for _, text in rows]
    assert [one["probability"] for one in objects] == pytest.approx(shares, rel=1e-5)
    assert objects[-1]["mass"] == pytest.approx(sum(shares), rel=1e-5)
    new = [line.split("\t")[1] for line in lines_of_best("--best", 20, "-n", 4, "--new")]
    assert new == [text for _, text in rows if text not in NAMES] + new[len([t for _, t in rows if t not in NAMES]) :]
    assert not set(new) & set(NAMES)


def lines_of_best(*how: object) -> list[str]:
    return charlstm("sample", "--run", DOCUMENTS, *how).stdout.splitlines()


def test_sample_json_has_the_seed_of_each_and_its_probability_end_included() -> None:
    objects = [json.loads(line) for line in lines_of(DOCUMENTS, "--match", "[AB][ab]{1,3}", "--samples", 20, "--json")]
    for one in objects[::7]:
        again = charlstm("sample", "--run", DOCUMENTS, "--match", "[AB][ab]{1,3}", "--seed", one["seed"], "--json")
        assert json.loads(again.stdout) == pytest.approx(one)
        assert one["mean_log_prob"] == pytest.approx(one["log_prob"] / (len(one["text"]) + 1))
    told = charlstm("sample", "--run", DOCUMENTS, "--match", "[AB][ab]{1,3}", "--best", 28, "--json").stdout
    best = {one["text"]: one["log_prob"] for one in map(json.loads, told.splitlines())}
    assert len(best) == 28
    assert all(one["log_prob"] == pytest.approx(best[one["text"]], abs=1e-4) for one in objects)


def test_sample_rows_are_objects_of_all_columns_and_begin_with_what_is_given() -> None:
    columns = ["--columns", "city,street,floor", "-n", 40]
    objects = [json.loads(line) for line in lines_of(TABLE, *columns, "--samples", 50)]
    assert all(list(one) == ["city", "street", "floor"] for one in objects)
    how = [*columns, "--given", "city=Ax", "--given", "street=r, 1", "--json", "--samples", 5]
    for one in map(json.loads, lines_of(TABLE, *how)):
        assert one["text"].startswith('Ax,"r, 1",')
        (fields,) = csv.reader([one["text"]])
        assert fields == list(one["row"].values())
        assert one["row"]["street"] == "r, 1"
    tabbed = charlstm("sample", "--run", TABLE, "--columns", "a;b", "-n", 5, "--seed", 1, expect=2)
    assert "--columns matches nothing" in tabbed.stderr


def test_sample_paragraphs_on_one_line_each() -> None:
    sample = ["sample", "--run", PARAGRAPHS, "--seed", 1, "--match", r"a\n*b", "--samples", 40, "-n", 9, "--temp", 3]
    escaped = charlstm(*sample, "--escape").stdout.splitlines()
    nulls = charlstm(*sample, "-0").stdout.removesuffix("\0").split("\0")
    objects = [json.loads(line)["text"] for line in charlstm(*sample, "--json").stdout.splitlines()]
    assert [one.replace("\n", "\\n") for one in nulls] == escaped
    assert objects == nulls
    assert any("\n" in one for one in nulls)
    told = charlstm("sample", "--run", PARAGRAPHS, "--seed", 1, "--match", r"a\n+b", "-n", 9, expect=4)
    assert "holding a line end (give --escape, -0 or --json)" in told.stderr
    assert set(charlstm(*sample).stdout.split()) == {"ab"}


REFUSED: list[tuple[list[object], str]] = [
    (["--prompt", "A"], "--prompt does not go with documents or lines (for --prompt give --prefix): leave it out"),
    (["--interactive"], "--interactive does not go with"),
    (["--separator", "-"], "--separator does not go with"),
    (["--best", 3, "--temp", 1], "--temp does not go with --best, which draws nothing"),
    (["--best", 3, "--seed", 1], "--seed does not go with --best"),
    (["--best", 3, "--temp", 0], "--temp does not go with --best"),
    (["--match", "(", "--lines"], "--match is no expression of Python's re"),
    (["--match", "a", "--suffix", "a"], "--match and --suffix are both given"),
    (["--match", "ж"], "--match matches nothing that can be written with the model's"),
    (["--suffix", "ж"], "--suffix matches nothing that can be written"),
    (["--match", "a{9}", "-n", 5], "what matches has at least 9 characters, but --length is 5"),
    (["--match", "a{9}", "--prefix", "b"], "nothing that begins with --prefix (or --given) matches"),
    (["--given", "a=1"], "--given needs the names of all columns"),
    (["--columns", "a,a"], "must be different names"),
    (["--columns", "a,b", "--given", "c=1"], "--given names 'c', but --columns has a, b"),
    (["--columns", "a,b", "--given", "b=1"], "a is missing"),
    (["--columns", "a,b", "--given", "a=1", "--given", "b=1"], "b is the last one"),
    (["--columns", "a,b", "--given", "a=1", "--prefix", "x"], "--given and --prefix both say"),
    (["--columns", "a,b", "--given", "a=1", "--given", "a=2"], "must be NAME=VALUE, each column once"),
    (["--columns", "a,b", "--given", "a"], "must be NAME=VALUE, each column once"),
    (["--columns", "a,b", "-0"], "leave -0 and --escape out"),
    (["--columns", "a,b", "--escape"], "leave -0 and --escape out"),
]


@pytest.mark.parametrize(("how", "sentence"), REFUSED, ids=str)
def test_sample_refuses_what_does_not_go_together(how: list[object], sentence: str) -> None:
    told = charlstm("sample", "--run", DOCUMENTS, *how, expect=2)
    assert sentence in told.stderr
    assert told.stderr.count("\n") == 1
    assert told.stdout == ""


def test_sample_refuses_a_prefix_that_the_model_cannot_write() -> None:
    assert "not in the model's vocabulary" in charlstm("sample", "--run", DOCUMENTS, "--prefix", "ж", expect=3).stderr
    assert (
        "--prefix (or --given) holds a line end"
        in charlstm("sample", "--run", STREAM, "--prefix", "A\nB", expect=2).stderr
    )


def test_sample_refuses_lines_of_a_text_without_any() -> None:
    write_settings(Path(), "ab ba " * 200, steps=2)
    charlstm("train", "tiny.yaml", "--run", "endless")
    for how in (["--lines"], ["--match", "a"], ["--best", 3], ["--new"]):
        assert "no end" in charlstm("sample", "--run", "endless", *how, expect=2).stderr


def test_sample_new_needs_the_text_of_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path))
    told = charlstm("sample", "--run", DOCUMENTS, "--new", "--match", ".{5}", expect=4)
    assert "--trust-sources" in told.stderr
    found = charlstm("sample", "--run", DOCUMENTS, "--new", "--match", ".{5}", "--trust-sources", "--seed", 1).stdout
    assert found.strip() not in NAMES
    assert list(tmp_path.glob("*.known"))


ROW = r'[AY][xz],"[rs], [1-5]?\d",[0-6]'


MATCHED = [ROW, r"\w+é?", r"[A-Z][a-zé]{2,5}(?:-[A-Z][a-zé]{2,5})?", r"(?i)[aé]{4,}", r"[^\W\d]{,3}"]


@pytest.mark.parametrize("match", MATCHED)
def test_sample_matches_always(match: str) -> None:
    run = TABLE if match == ROW else DOCUMENTS
    found = lines_of(run, "--match", match, "--samples", 200, "-n", 14, "--temp", 2)
    assert len(found) == 200
    assert all(re.fullmatch(match, one) for one in found)
