"""Where a text is cut into documents: BOUNDARY is put after each, and what stands between two is left out.

    line        what stands between line ends, "\\n" or "\\r\\n"; an empty line is no document
    paragraph   what stands between blank lines
    file        a whole file
    record      the text of one field of a JSON object a line, or of one column of a CSV or TSV table

A file's end is always a document's. An empty document is none.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

from charlstm.errors import TextError
from charlstm.settings import DataSettings
from charlstm.text.characters import BOUNDARY, normalize_newlines

MOST_BLANKS = 1 << 16  # in a row that wait to be seen whole
PIECE_DOCUMENTS = 4096  # of records that are handed on together, as each piece has a cost of its own
BYTE_ORDER_MARK_IN_BYTES = "\xef\xbb\xbf"  # where a character stands for a byte
MOST_FIELD_BYTES = 2**31 - 1  # of a table
_LEADING_BLANK_LINES = re.compile(r"\A(?:[ \t\r]*\n)+")
_BLANK_LINES = re.compile(r"\r?\n(?:[ \t\r]*\n)+")


@dataclass(frozen=True)
class Cut:
    """How texts are cut into documents, and what decides the characters of each."""

    kind: str = "stream"  # which is not cut
    field: str | None = None
    column: str | None = None
    in_bytes: bool = False  # whether a character of a piece stands for a byte
    normalize_newlines: bool = False

    @classmethod
    def of(cls, data: DataSettings) -> "Cut":
        """That of a run."""
        return cls(data.documents, data.field, data.column, data.unit == "byte", data.newline == "normalize")

    @property
    def key(self) -> str:
        """What of it decides the ids, for their fingerprint; empty for a stream."""
        return "" if self.kind == "stream" else f" {json.dumps([self.kind, self.field, self.column])}"


STREAM = Cut()


def cut_documents(pieces: Iterable[str], cut: Cut, *, where: str) -> Iterator[str]:
    """The pieces of one file's text with BOUNDARY after each document. Raises TextError for a bad record.

    A document may be of any size: of lines, paragraphs and files no more is held than a piece.
    """
    if cut.kind == "line":
        return _cut_lines(pieces)
    if cut.kind == "paragraph":
        return _cut_paragraphs(pieces)
    if cut.kind == "file":
        return _cut_file(pieces)
    if cut.field is not None:
        return _joined(_json_texts(pieces, cut, cut.field, where), cut)
    assert cut.column is not None
    return _joined(_column_texts(pieces, cut.column, where, in_bytes=cut.in_bytes), cut)


def _cut_lines(pieces: Iterable[str]) -> Iterator[str]:
    waiting, is_open = "", False  # a final \r waits to see what follows; a document is open that has characters
    for piece in pieces:
        text = waiting + piece
        waiting = "\r" if text.endswith("\r") else ""
        first, *others = text.removesuffix("\r").replace("\r\n", "\n").split("\n")
        is_open = is_open or first != ""
        if others:
            ended = [first] if is_open else []
            yield BOUNDARY.join([*ended, *filter(None, others[:-1]), others[-1]])
            is_open = others[-1] != ""
        else:
            yield first
    if waiting or is_open:
        yield waiting + BOUNDARY


def _cut_paragraphs(pieces: Iterable[str]) -> Iterator[str]:
    waiting, is_open = "", False  # blanks wait to see what follows
    for piece in pieces:
        text = waiting + piece
        body = text.rstrip(" \t\r\n")
        waiting = text[len(body) :]
        if not is_open:
            body = _LEADING_BLANK_LINES.sub("", body)
        if body:
            yield _BLANK_LINES.sub(BOUNDARY, body)
            is_open = True
        if len(waiting) > MOST_BLANKS:
            blank_lines = _BLANK_LINES.search(waiting)
            if is_open and not blank_lines:
                yield waiting[:-1]
            waiting = "\n\n" if blank_lines else waiting[-1]
    if is_open:
        yield waiting.partition("\n")[0].removesuffix("\r") + BOUNDARY


def _cut_file(pieces: Iterable[str]) -> Iterator[str]:
    is_open = False
    for piece in pieces:
        yield piece
        is_open = is_open or piece != ""
    if is_open:
        yield BOUNDARY


def _json_texts(pieces: Iterable[str], cut: Cut, field: str, where: str) -> Iterator[str]:
    """The text of a field of each line's JSON object."""
    for number, line in enumerate(_lines(pieces), 1):
        if not line.strip():
            continue
        place = f"{where}, line {number}"
        try:
            record = json.loads(line.encode("latin-1") if cut.in_bytes else line)
        except (ValueError, RecursionError) as error:
            problem = getattr(error, "msg", "not UTF-8, nested too deeply, or a number of too many digits")
            raise TextError(f"{place} is no JSON object ({problem}); correct or remove it") from None
        if not isinstance(record, dict) or field not in record:
            known = (
                f"an object with {', '.join(map(repr, list(record)[:5]))}" if isinstance(record, dict) else "no object"
            )
            raise TextError(f"{place} is {known}, but data.field names {field!r}; correct the record or the setting")
        text = record[field]
        if not isinstance(text, str):
            raise TextError(
                f"{place} has no text in {field!r} but {json.dumps(text)[:40]}; correct or remove the record"
            )
        try:
            as_bytes = text.encode()
        except UnicodeEncodeError:
            problem = "a lone surrogate, which stands for no character"
            raise TextError(f"{place} has {problem}, in {field!r}; correct or remove the record") from None
        yield as_bytes.decode("latin-1") if cut.in_bytes else text


def _column_texts(pieces: Iterable[str], column: str, where: str, *, in_bytes: bool) -> Iterator[str]:
    """The text of a column of each row but the first, which names the columns; separated by what is frequent there.

    Fields of tables that tabs separate are never quoted.
    """
    lines = _lines(pieces)
    head = next(lines, "").removeprefix(BYTE_ORDER_MARK_IN_BYTES if in_bytes else "")
    csv.field_size_limit(MOST_FIELD_BYTES)
    delimiter = max(",\t;", key=head.count)
    form = partial(csv.reader, quoting=csv.QUOTE_NONE) if delimiter == "\t" else csv.reader
    rows = form(chain([head], lines), delimiter=delimiter, strict=True)
    try:
        names = [name.encode("latin-1").decode("utf-8", "replace") if in_bytes else name for name in next(rows, [])]
        if column not in names:
            named = ", ".join(map(repr, names[:10])) or "none"
            raise TextError(f"{where} has no column {column!r}; name one of these by data.column: {named}")
        if names.count(column) > 1:
            raise TextError(f"{where} has {names.count(column)} columns {column!r}; rename those that are not meant")
        place = names.index(column)
        for row in rows:
            if len(row) == len(names):
                yield row[place]
            elif row:
                problem = f"has another number of fields than the first row, {len(row)} instead of {len(names)}"
                raise TextError(f"{where}, line {rows.line_num} {problem}; correct or remove it")
    except csv.Error as error:
        raise TextError(f"{where}, line {rows.line_num} is no row of a table ({error}); correct or remove it") from None


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of the pieces with their line ends."""
    waiting: list[str] = []
    for piece in pieces:
        first, *others = piece.split("\n")
        waiting.append(first)
        if others:
            yield "".join(waiting) + "\n"
            for line in others[:-1]:
                yield line + "\n"
            waiting = others[-1:]
    if rest := "".join(waiting):
        yield rest


def _joined(documents: Iterable[str], cut: Cut) -> Iterator[str]:
    """Pieces of documents that are held whole."""
    waiting: list[str] = []
    for document in filter(None, documents):
        waiting += (normalize_newlines(document) if cut.normalize_newlines else document, BOUNDARY)
        if len(waiting) >= PIECE_DOCUMENTS or len(document) >= PIECE_DOCUMENTS:
            yield "".join(waiting)
            waiting = []
    yield "".join(waiting)
