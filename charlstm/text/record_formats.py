"""Records of text, JSON lines, CSV and TSV: the text of one field, and the record as it came with a value added."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import NamedTuple, Protocol, TypeAlias

from charlstm.errors import TextError
from charlstm.text.line_input import Line

MAX_RECORD_BYTES = 100_000_000  # of JSON lines, CSV and TSV, which are held in memory
MAX_QUOTED_BYTES = 1_000_000  # of a CSV record of several lines: a longer one is taken for a quote that was forgotten
LARGE = 1e6  # from which numbers have an exponent


Values: TypeAlias = Mapping[str, str | float]  # that are added to a record, by their names


class Record(NamedTuple):
    """One record: its text, its bytes as they came without the last line end, and the number of its first line."""

    text: Line
    raw: Line
    number: int


class BadRecordError(TextError):
    """A record that cannot be read; those after it can be."""


class RecordFormat(Protocol):
    """How lines become records; each knows how many lines it has been given."""

    def feed(self, line: Line) -> Record | None:
        """The record that this line completes, None if it goes on or is a header. Raises BadRecordError."""

    def finish(self) -> None:
        """Tell that no more lines come. Raises BadRecordError if a record is not complete."""

    def header(self) -> bytes:
        """What stands before the first record, b"" if nothing does; known once a record is."""

    def with_values(self, record: Record, values: Values) -> bytes:
        """A record with its values added, and a line end."""


class TextFormat:
    """Every line is a record."""

    def __init__(self) -> None:
        self._lines = 0

    def feed(self, line: Line) -> Record:
        """See `RecordFormat`."""
        self._lines += 1
        return Record(line, line, self._lines)

    def finish(self) -> None:
        """See `RecordFormat`."""

    def header(self) -> bytes:
        """See `RecordFormat`."""
        return b""

    def with_values(self, record: Record, values: Values) -> bytes:
        """The values, each before a tab, and the line as it came."""
        raw = record.raw if isinstance(record.raw, bytes) else b"".join(record.raw.chunks())
        return b"".join(_encoded(f"{_shown(value)}\t") for value in values.values()) + raw + b"\n"


class JsonFormat:
    """One JSON object a line."""

    def __init__(self, field: str, added: Sequence[str]) -> None:
        self._field, self._added = field, added
        self._lines = 0

    def feed(self, line: Line) -> Record | None:
        """See `RecordFormat`."""
        self._lines += 1
        line = _in_memory(line, self._lines)
        if not line.strip():
            return None
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or "not UTF-8, nested too deeply, or a number of too many digits"
            raise BadRecordError(f"line {self._lines} is not JSON: {reason}; correct it, or give --skip-bad") from None
        if not isinstance(found, dict) or not isinstance(text := found.get(self._field), str):
            raise BadRecordError(
                f"line {self._lines} has no text in a field {self._field!r}; correct it, or give --skip-bad"
            )
        for name in self._added:
            if name in found:
                raise BadRecordError(f"line {self._lines} has a field {name!r} already; name the new one with --as")
        return Record(text.encode("utf-8", "surrogatepass"), line, self._lines)

    def finish(self) -> None:
        """See `RecordFormat`."""

    def header(self) -> bytes:
        """See `RecordFormat`."""
        return b""

    def with_values(self, record: Record, values: Values) -> bytes:
        """The object's own bytes, with the values as its last members."""
        assert isinstance(record.raw, bytes)
        body = record.raw.rstrip()[:-1].rstrip()
        more = json.dumps({name: _in_json(value) for name, value in values.items()}, ensure_ascii=False)[1:]
        return body + b", " + _encoded(more) + b"\n"


class TableFormat:
    """CSV (RFC 4180: quoted fields may hold commas, doubled quotes, line ends) or TSV (no quoting), with a header.

    The fields of CSV may also be separated by semicolons, if its header has more of them.
    """

    def __init__(self, field: str, added: Sequence[str], *, quoting: bool) -> None:
        self._field, self._added, self._quoting = field, added, quoting
        self._delimiter = "," if quoting else "\t"
        csv.field_size_limit(MAX_RECORD_BYTES)
        self._columns: list[str] = []
        self._head = b""
        self._waiting: list[bytes] = []  # lines of a record whose quoted field goes on
        self._waiting_bytes = self._quotes = 0  # of these lines
        self._lines = 0

    def feed(self, line: Line) -> Record | None:
        """See `RecordFormat`."""
        self._lines += 1
        line = _in_memory(line, self._lines)
        goes_on = bool(self._waiting)
        self._waiting.append(line)
        self._waiting_bytes = self._waiting_bytes * goes_on + len(line)
        self._quotes = self._quotes * goes_on + line.count(b'"')
        number = self._lines - len(self._waiting) + 1
        if goes_on and self._waiting_bytes > MAX_QUOTED_BYTES:
            self.finish()
        if goes_on and self._quotes % 2:  # an open quote is closed by another
            return None
        raw = b"\n".join(self._waiting)
        if not self._columns and self._quoting:
            self._delimiter = max(",;", key=raw.decode("latin-1").count)
        cells = self._cells(raw, number)
        if cells is None:
            self._quotes = 1
            return None
        self._waiting = []
        if not self._columns:
            self._read_header(raw, cells)
            return None
        if not raw.removesuffix(b"\r"):
            return None
        if len(cells) != len(self._columns):
            raise BadRecordError(
                f"line {number} has another number of fields than the header, {len(cells)} instead of "
                f"{len(self._columns)}; correct it, or give --skip-bad"
            )
        text = cells[self._columns.index(self._field)]
        return Record(text.encode("utf-8", "surrogateescape"), raw, number)

    def finish(self) -> None:
        """See `RecordFormat`."""
        if self._waiting:
            number = self._lines - len(self._waiting) + 1
            self._waiting = []
            raise BadRecordError(
                f"line {number} opens a quote that is not closed by line {self._lines}; correct it, or give --skip-bad"
            )

    def header(self) -> bytes:
        """See `RecordFormat`."""
        return self._join(self._head, self._added) if self._columns else b""

    def with_values(self, record: Record, values: Values) -> bytes:
        """The record's own bytes, with the values as its last fields."""
        assert isinstance(record.raw, bytes)
        return self._join(record.raw, list(map(_shown, values.values())))

    def _join(self, raw: bytes, added: Sequence[str]) -> bytes:
        end = b"\r\n" if raw.endswith(b"\r") else b"\n"
        cells = map(self._quoted, added)
        return raw.removesuffix(b"\r") + _encoded("".join(self._delimiter + cell for cell in cells)) + end

    def _quoted(self, cell: str) -> str:
        if not self._quoting:
            return " ".join(cell.split())
        return '"' + cell.replace('"', '""') + '"' if set(cell) & {'"', self._delimiter, "\r", "\n"} else cell

    def _read_header(self, raw: bytes, cells: list[str]) -> None:
        if self._field not in cells:
            named = ", ".join(cells)
            raise TextError(f"there is no column {self._field!r} in the header ({named}): name one with --field")
        if cells.count(self._field) > 1:
            raise TextError(f"there are {cells.count(self._field)} columns {self._field!r}: rename those not meant")
        for name in self._added:
            if name in cells:
                raise TextError(f"there is a column {name!r} already; name the new one with --as")
        self._columns, self._head = cells, raw

    def _cells(self, raw: bytes, number: int) -> list[str] | None:
        """The fields of a record, None if a quote is open at its end."""
        text = raw.decode("utf-8", "surrogateescape").removesuffix("\r")
        if not self._quoting or '"' not in text:
            return text.split(self._delimiter)
        try:
            rows = list(csv.reader(StringIO(text + "\n", newline=""), delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                return None
            self._waiting = []
            raise BadRecordError(f"line {number} is not CSV: {error}; correct it, or give --skip-bad") from None
        if len(rows) > 1:
            self._waiting = []
            raise BadRecordError(
                f"line {number} holds a carriage return, which ends a row, outside of quotes; correct it, or give "
                "--skip-bad"
            )
        return rows[0] if rows else [""]


def open_format(name: str, field: str | None, added: Sequence[str]) -> RecordFormat:
    """The format of a name: text, jsonl, csv or tsv; all but text need a field. added: the names of added values."""
    if name == "text":
        return TextFormat()
    assert field is not None
    if name == "jsonl":
        return JsonFormat(field, added)
    return TableFormat(field, added, quoting=name == "csv")


def _encoded(text: str) -> bytes:
    """UTF-8, and the bytes of names as the system gave them, which need not be."""
    return text.encode("utf-8", "surrogateescape")


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4f}" if abs(value) < LARGE else f"{value:.6g}"


def _in_json(value: str | float) -> str | float | None:
    return value if isinstance(value, str) else round(value, 6) if math.isfinite(value) else None


def _in_memory(line: Line, number: int) -> bytes:
    if isinstance(line, bytes):
        return line
    if len(line) > MAX_RECORD_BYTES:
        raise BadRecordError(f"line {number} is longer than {MAX_RECORD_BYTES:,} bytes; shorten it, or give --skip-bad")
    return b"".join(line.chunks())
