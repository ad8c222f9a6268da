"""Lines and records that come in from a file or a pipe, and go out in their order."""

import io
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, cast

import typer

from charlstm.cli.terminal import is_typed, print_diagnostic
from charlstm.errors import SettingsError, TextError

if TYPE_CHECKING:
    from charlstm.text import Record, RecordFormat

FIRST_LINES, MOST_LINES = 64, 4096  # scored together: few at first, so that `| head` need not wait
MOST_BYTES = 256_000
WHOLE = slice(0, None, 1)  # all records of an input


class Format(StrEnum):
    """What a line or record of the input is."""

    text = "text"
    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"


FormatOption: TypeAlias = Annotated[
    Format, typer.Option("--format", help="Lines of text, JSON objects, or CSV or TSV with a header.")
]
FieldOption: TypeAlias = Annotated[
    str | None, typer.Option("--field", metavar="NAME", help="The field or column that holds the text.")
]
SkipOption: TypeAlias = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out records that cannot be read, and count them.")
]


def check_format(form: Format, field: str | None, *, as_json: bool) -> None:
    """Raise SettingsError unless there is a field if, and only if, the format has fields, and no --json beside it."""
    if (form is Format.text) != (field is None):
        wrong = "has no fields: leave --field out" if form is Format.text else "needs --field NAME"
        raise SettingsError(f"--format {form} {wrong}")
    if as_json and form is not Format.text:
        raise SettingsError(f"--json makes objects of lines of text, --format {form} adds to records: give one of them")


class RecordStream:
    """The records of one input, as many at a time as can be read without waiting."""

    def __init__(self, source: str, form: "RecordFormat", *, skip_bad: bool, part: slice = WHOLE) -> None:
        """part: which of the records, of `parse_shard`."""
        self.form = form
        self._part = part
        self._source, self._skip_bad = source, skip_bad
        self._skipped = 0
        self._first_problem = ""

    def windows(self) -> Iterator[list["Record"]]:
        """One list of records after another. Raises TextError for what cannot be read."""
        from charlstm.text import LineReader

        with _opened(self._source) as opened:
            reader, most = LineReader(opened, partial(_wait_for_input, opened)), FIRST_LINES
            first, read = True, 0
            while lines := reader.take(most, MOST_BYTES):
                if first and isinstance(lines[0], bytes):
                    lines[0] = _without_mark(lines[0], self._source)
                first = False
                records = []
                for line in lines:
                    try:
                        record = self.form.feed(line)
                    except TextError as problem:
                        self._refuse(problem)
                    else:
                        if record is not None:
                            records.append(record)
                own = records[(self._part.start - read) % self._part.step :: self._part.step]
                read += len(records)
                if own:
                    yield own
                if len(lines) == most:
                    most = min(2 * most, MOST_LINES)
            try:
                self.form.finish()
            except TextError as problem:
                self._refuse(problem)
        if self._skipped:
            print_diagnostic(
                f"records left out, as they cannot be read: {self._skipped:,}; the first: {self._first_problem}"
            )

    def _refuse(self, problem: TextError) -> None:
        """Raise what is wrong, with where; or count it, if it is a record that may be left out."""
        from charlstm.text import BadRecordError

        told = f"{_named(self._source)}: {problem}"
        if not (self._skip_bad and isinstance(problem, BadRecordError)):
            raise TextError(told) from None
        self._skipped += 1
        self._first_problem = self._first_problem or told.partition(";")[0]


@contextmanager
def _opened(source: str) -> Iterator[io.BufferedReader]:
    """A file, or stdin for "-". Raises TextError."""
    if is_typed(source):
        print_diagnostic("reading lines from standard input; end them with Ctrl-D on a new line")
    from charlstm.text import open_unpacked

    try:
        with nullcontext(sys.stdin.buffer) if source == "-" else open_unpacked(Path(source)) as file:
            yield cast(io.BufferedReader, file)
    except BrokenPipeError:
        raise
    except (OSError, ValueError, AttributeError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or (error if isinstance(error, ValueError) else "it is closed")
        raise TextError(f"could not read {_named(source)}: {reason}") from None


def _named(source: str) -> str:
    return "standard input" if source == "-" else source


def _wait_for_input(source: io.BufferedReader) -> None:
    """Wait until source can be read. Raises BrokenPipeError when stdout has no reader: `tail -f | score | head`."""
    poller = select.poll()
    try:
        poller.register(source, select.POLLIN)
        poller.register(sys.stdout, 0)
        output = sys.stdout.fileno()
    except (io.UnsupportedOperation, ValueError, TypeError, AttributeError):  # in memory, or closed
        return
    if dict(poller.poll()).get(output, 0) & (select.POLLERR | select.POLLHUP):
        raise BrokenPipeError


def _without_mark(line: bytes, source: str) -> bytes:
    """The first line without its byte-order mark. Raises TextError for UTF-16."""
    from charlstm.text.characters import drop_byte_order_mark

    return drop_byte_order_mark(line, where=_named(source))
