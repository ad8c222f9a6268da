"""Cutting: a document is what its definition says, wherever the pieces end, and a bad record is named by its line."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from charlstm.errors import TextError
from charlstm.settings import DataSettings
from charlstm.text import Corpus, Cut, text_files
from charlstm.text.characters import BOUNDARY
from charlstm.text.corpus import encode_source, prepare_corpus
from charlstm.text.cutting import cut_documents

PIECES = st.lists(st.text(st.sampled_from("ab\r\n \t"), max_size=6), max_size=12)


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cut(pieces: list[str], kind: str, **how: Any) -> list[str]:
    """The documents, and a failure if one is empty or the last has no end."""
    text = "".join(cut_documents(pieces, Cut(kind, **how), where="'x'"))
    *documents, rest = text.split(BOUNDARY)
    assert rest == ""
    assert all(documents)
    return documents


def prepare(*names: str, content: bytes | None = None, **changes: Any) -> Corpus:
    data = DataSettings(sources=names or ("-",), **changes)
    stdin = None if content is None else io.BytesIO(content)
    return prepare_corpus(data, cache_folder=Path("cache"), data_folder=None, stdin=stdin)


def documents_of(corpus: Corpus) -> list[bytes]:
    ids = np.asarray(corpus.ids)
    assert ids[-1] == corpus.vocab.boundary_id
    cuts = np.flatnonzero(ids == corpus.vocab.boundary_id)
    return [corpus.vocab.to_bytes(part) for part in np.split(ids, cuts + 1)[:-1]]


@given(PIECES)
def test_cutting_lines_gives_what_stands_between_line_ends(pieces: list[str]) -> None:
    assert cut(pieces, "line") == [line for line in re.split("\r?\n", "".join(pieces)) if line]


@given(PIECES)
@example(["\r ", "\n\n "])
@example(["a", "\r\r\n\n "])
def test_cutting_paragraphs_gives_what_stands_between_blank_lines(pieces: list[str]) -> None:
    expected: list[list[str]] = [[]]
    for line in re.findall("[^\n]*\n|[^\n]+", "".join(pieces)):
        blank = re.fullmatch("[ \t\r]*\n", line) is not None
        if not blank:
            expected[-1].append(line)
        elif expected[-1]:
            expected.append([])
    found = cut(pieces, "paragraph")
    text = ["".join(lines) for lines in expected if lines]
    *whole, last = text or [""]
    ends = [re.sub("\r?\n\\Z", "", paragraph) for paragraph in whole]
    assert [*found[: len(ends)]] == ends
    if last.strip(" \t\r\n"):  # blanks alone, without a line end, are a last line that nobody misses
        assert [part.rstrip(" \t\r\n") for part in found[len(ends) :]] == [last.rstrip(" \t\r\n")]


@given(PIECES)
def test_cutting_files_gives_the_whole_file(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert cut(pieces, "file") == [text] * (text != "")


@given(PIECES, st.integers(0, 3))
def test_cutting_does_not_depend_on_where_pieces_end(pieces: list[str], more: int) -> None:
    whole = ["".join(pieces) + "b" * more]
    for kind in ("line", "paragraph", "file"):
        assert cut(whole, kind) == cut([*pieces, "b" * more], kind) == cut([*whole[0]], kind)


def test_cutting_json_takes_one_field_of_each_line_as_it_is() -> None:
    texts = ["a\nb", "é\u2028", "", "x" * 9000, " y "]
    lines = "\n\n".join(json.dumps({"id": 1, "text": text}) for text in texts) + "\r\n"
    expected = [text for text in texts if text]
    for size in (1, 7, 10_000):
        pieces = [lines[first : first + size] for first in range(0, len(lines), size)]
        assert cut(pieces, "record", field="text") == expected


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_cutting_tables_takes_the_column_that_is_named(delimiter: str) -> None:
    rows = [
        ["id", "text", "z"],
        ["1", 'say "hi"', ""],
        ["2", f"a{delimiter}b\nc", "z"],
        ["3", "", "z"],
        ["4", "d", "z"],
    ]
    quoted = ['"' + field.replace('"', '""') + '"' for row in rows[1:] for field in row]
    lines = [delimiter.join(rows[0]), *(delimiter.join(quoted[at : at + 3]) for at in range(0, len(quoted), 3)), ""]
    assert cut(["\r\n".join(lines)], "record", column="text") == ['say "hi"', f"a{delimiter}b\nc", "d"]


def test_cutting_tables_of_tabs_has_no_quotes() -> None:
    assert cut(['id\ttext\n1\t"a"\n2\t5" x\n'], "record", column="text") == ['"a"', '5" x']


def test_cutting_tables_in_bytes_names_columns_in_utf_8_and_drops_a_byte_order_mark() -> None:
    pieces = ["\ufeffgröße,z\né,1\n".encode().decode("latin-1")]
    assert cut(pieces, "record", column="größe", in_bytes=True) == ["é".encode().decode("latin-1")]
    with pytest.raises(TextError, match="'größe', 'z'"):
        cut(pieces, "record", column="t", in_bytes=True)


@pytest.mark.parametrize(
    ("how", "content", "message"),
    [
        ({"field": "t"}, '{"t": "a"}\n{"t": \n', "'x', line 2 is no JSON object .Expecting value"),
        ({"field": "t"}, "\n[1]\n", "'x', line 2 is no object, but data.field names 't'"),
        ({"field": "t"}, '{"u": "a", "v": 1}\n', "'x', line 1 is an object with 'u', 'v', but data.field names 't'"),
        ({"field": "t"}, '{"t": "a"}\n{"t": 5}\n', "'x', line 2 has no text in 't' but 5"),
        ({"field": "t"}, '{"t": "\\udc00"}\n', "'x', line 1 has a lone surrogate"),
        ({"field": "t"}, "[" * 100_000, "'x', line 1 is no JSON object .not UTF-8, nested too deeply, or a number"),
        ({"column": "t"}, "t,a,t\n1,2,3\n", "'x' has 2 columns 't'"),
        ({"column": "t"}, "a,b\n1,2\n", "'x' has no column 't'; name one of these by data.column: 'a', 'b'"),
        ({"column": "t"}, "", "'x' has no column 't'; name one of these by data.column: none"),
        (
            {"column": "t"},
            'a,t\n"1\n2",x\n3\n',
            "'x', line 4 has another number of fields than the first row, 1 instead of 2",
        ),
        ({"column": "t"}, 'a,t\n1,"x"y\n', "'x', line 2 is no row of a table"),
        ({"column": "t"}, 'a,t\n1,"x\n', "'x', line 2 is no row of a table"),
    ],
)
def test_cutting_names_the_line_of_a_bad_record(how: dict[str, str], content: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        cut([content], "record", **how)


# in a corpus


@pytest.mark.parametrize("chunk_bytes", [1, 3, 1 << 20])
def test_corpus_of_lines_has_a_boundary_after_each(chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "CHUNK_BYTES", chunk_bytes)
    corpus = prepare(content="b😀\r\n\n\naé\r\nb".encode(), documents="line")
    assert documents_of(corpus) == ["b😀".encode(), "aé".encode(), b"b"]
    assert corpus.vocab.symbols == ("a", "b", "é", "😀")
    assert corpus.vocab.boundary_id == 4
    normalized = prepare(content=b"b\ra\n\rb", documents="line", newline="normalize")
    assert documents_of(normalized) == [b"b", b"a", b"b"]


def test_corpus_of_documents_ends_one_where_a_file_ends() -> None:
    Path("1").write_bytes(b"\xef\xbb\xbfone\ntw")
    Path("2").write_bytes(b"o\nthree")
    Path("3").write_bytes(b"")
    assert documents_of(prepare("1", "2", "3", documents="line")) == [b"one", b"tw", b"o", b"three"]
    assert documents_of(prepare("1", "2", "3", documents="file")) == [b"one\ntw", b"o\nthree"]
    Path("4").write_bytes(b"one\ntwo\nthree")
    assert len({prepare(*names, documents="line").fingerprint for names in (("1", "2"), ("4",), ("1", "2", "3"))}) == 3


def test_corpus_of_documents_in_bytes_and_normal_form() -> None:
    line = json.dumps({"t": "e\u0301\r\n"}).encode() + b"\n"
    record = {"documents": "record", "field": "t"}
    assert documents_of(prepare(content=line, unit="byte", **record)) == ["e\u0301\r\n".encode()]
    assert documents_of(prepare(content=line, normalize="nfc", newline="normalize", **record)) == ["é\n".encode()]
    assert documents_of(prepare(content=b"\xff\n\xfe", documents="line", unit="byte")) == [b"\xff", b"\xfe"]


def test_corpus_fingerprint_tells_kinds_of_documents_apart() -> None:
    Path("x").write_text('{"t": "a", "u": "a"}\n')
    ways: list[dict[str, Any]] = [{}, *({"documents": kind} for kind in ("line", "paragraph", "file"))]
    ways += [{"documents": "record", "field": name} for name in "tu"]
    assert len({prepare("x", **way).fingerprint for way in ways}) == len(ways)


def test_corpus_of_documents_comes_from_the_cache_and_refuses_a_text_without_any() -> None:
    first = prepare(content=b"a\nb\n", documents="line")
    again = prepare(content=b"a\nb\n", documents="line")
    assert again.vocab == first.vocab
    assert np.array_equal(again.ids, first.ids)
    for content in (b"", b"\n\r\n\n"):
        with pytest.raises(TextError, match="the text is empty"):
            prepare(content=content, documents="line")


def test_text_to_measure_is_cut_as_the_corpus() -> None:
    corpus = prepare(content=b"ab\nba\n", documents="line", unknown="skip")
    Path("y").write_bytes(b"b\r\n\nxaxa")
    found = encode_source(corpus.vocab, "y", cache_folder=Path("cache"), data_folder=None, stdin=None, cut=Cut("line"))
    assert found.ids.tolist() == [1, 2, 0, 0, 2]
    assert (found.unknown_chars, found.unknown) == (2, ("x",))
