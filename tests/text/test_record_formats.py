"""Records: their text is what the standard library reads, their bytes stay as they came."""

import csv
import io
import json
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import TextError
from charlstm.text import BadRecordError, Record, open_format
from charlstm.text.record_formats import MAX_QUOTED_BYTES, RecordFormat

cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=8)


def records(form: RecordFormat, data: bytes) -> list[Record]:
    found = [form.feed(line) for line in data.removesuffix(b"\n").split(b"\n")]
    form.finish()
    return [record for record in found if record is not None]


@given(
    rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=6),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_csv_fields_are_those_of_the_library_and_rows_keep_their_quoting(
    rows: list[tuple[str, str]], quoting: "csv._QuotingType"
) -> None:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n", quoting=quoting).writerows([("id", "text"), *rows])
    data = table.getvalue().encode()
    form = open_format("csv", "text", ["score"])
    found = records(form, data)
    assert [record.text for record in found] == [text.encode() for _, text in rows]
    out = form.header() + b"".join(form.with_values(record, {"score": 1.5}) for record in found)
    again = list(csv.reader(io.StringIO(out.decode(), newline="")))
    assert again == [["id", "text", "score"], *([*row, "1.5000"] for row in rows)]
    assert out.replace(b",1.5000\n", b"\n").replace(b",score\n", b"\n") == data


@given(rows=st.lists(st.dictionaries(st.sampled_from(["id", "n", "ü"]), st.integers() | cells, max_size=3), min_size=1))
def test_json_objects_keep_their_bytes(rows: list[dict[str, object]]) -> None:
    rows = [{**row, "text": "a\nb"} for row in rows]
    lines = [
        json.dumps(row, ensure_ascii=bool(number % 2)).encode() + b" \r" * (number % 3 == 2)
        for number, row in enumerate(rows)
    ]
    form = open_format("jsonl", "text", ["score"])
    found = records(form, b"\n".join(lines))
    assert {record.text for record in found} == {b"a\nb"}
    for record, line, row in zip(found, lines, rows, strict=True):
        out = form.with_values(record, {"score": 2.25})
        assert out.startswith(line.rstrip()[:-1])
        assert json.loads(out) == {**row, "score": 2.25}
    assert json.loads(form.with_values(found[0], {"score": float("inf")}))["score"] is None


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("jsonl", b'{"text": "a"}\n{"text": \n', 2),
        ("jsonl", b'{"text": 3}', 1),
        ("jsonl", b'["text"]', 1),
        ("jsonl", b'{"text": "a", "score": 1}', 1),
        ("jsonl", b'{"text": "\xff"}', 1),
        ("jsonl", b"[" * 100_000, 1),
        ("csv", b"id,text\n1,a\n2\n", 3),
        ("csv", b'id,text\n1,"a\nb"\n2,"open\nto the end\n', 4),
        ("csv", b'id,text\n1,"a"b\n', 2),
        ("csv", b'id,text\n"1",a\rb\n', 2),
        ("tsv", b"id\ttext\n1\ta\tb\n", 2),
    ],
)
def test_bad_records_are_named_by_their_lines(name: str, data: bytes, line: int) -> None:
    with pytest.raises(BadRecordError, match=f"^line {line} "):
        records(open_format(name, "text", ["score"]), data)


@pytest.mark.parametrize(
    ("name", "data"), [("csv", b"id,b\n"), ("tsv", b"id,text\n"), ("csv", b"text,score\n"), ("csv", b"text,text\n")]
)
def test_headers_without_the_field_or_with_the_added_one_are_refused(name: str, data: bytes) -> None:
    with pytest.raises(TextError, match="column"):
        records(open_format(name, "text", ["score"]), data)


def test_tsv_has_no_quotes_and_line_ends_are_kept() -> None:
    form = open_format("tsv", "text", ["score"])
    (record,) = records(form, b'id\ttext\r\n"1\ta "b\r\n')
    assert record.text == b'a "b'
    assert form.header() + form.with_values(record, {"score": 1.0}) == b'id\ttext\tscore\r\n"1\ta "b\t1.0000\r\n'


def test_empty_rows_are_records_and_empty_lines_are_none() -> None:
    form = open_format("tsv", "text", ["score"])
    assert [one.raw for one in records(form, b"a\ttext\n1\tx\n\n\t\n\r\n2\ty\n")] == [b"1\tx", b"\t", b"2\ty"]
    form = open_format("csv", "text", ["score"])
    assert [one.text for one in records(form, b"text\n \nx\n")] == [b" ", b"x"]


def test_csv_of_semicolons_is_told_by_its_header() -> None:
    form = open_format("csv", "text", ["a;b"])
    (record,) = records(form, b'id;text\n1;"x, ""y"";"\n')
    assert record.text == b'x, "y";'
    assert form.header() + form.with_values(record, {"a;b": "1;2"}) == b'id;text;"a;b"\n1;"x, ""y"";";"1;2"\n'


def test_csv_a_forgotten_quote_takes_no_more_than_its_bytes_and_each_line_is_read_once() -> None:
    form = open_format("csv", "b", ["score"])
    parsed = []
    read = form._cells  # type: ignore[attr-defined]
    form._cells = lambda raw, number: parsed.append(len(raw)) or read(raw, number)  # type: ignore[attr-defined]
    form.feed(b"a,b")
    assert form.feed(b'1,"open') is None
    with pytest.raises(BadRecordError, match=r"line 2 opens a quote that is not closed by line \d+;"):
        assert not any(map(form.feed, repeat(b'2,"" x', MAX_QUOTED_BYTES)))
    assert len(parsed) == 2
    good = form.feed(b'3,"fi""ne"')
    assert good is not None
    assert good.text == b'fi"ne'


def test_csv_quotes_in_an_open_field_are_of_it_until_one_closes_it() -> None:
    form = open_format("csv", "b", ["score"])
    rows = [form.feed(line) for line in (b"a,b", b'5\'10"","go', b'es ""on""', b'and on"', b'x,y"z', b"1,2")]
    assert [row.text for row in rows if row is not None] == [b'go\nes "on"\nand on', b'y"z', b"2"]
