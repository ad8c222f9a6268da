"""Tables of text: drawn on a terminal, row by row where it is too narrow for them, in plain lines elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from charlstm.cli.terminal import printable, write, write_line

_GAP = 3  # columns that rich leaves between two


class Table(NamedTuple):
    """Rows of text under a title. The columns that hold numbers stand to the right."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: set[int]

    @property
    def widths(self) -> list[int]:
        """Of each column, in columns of a terminal."""
        return [max(map(cell_len, column)) for column in zip(self.columns, *self.rows, strict=True)]


def print_tables(heading: Sequence[str], tables: Sequence[Table]) -> None:
    """Write the tables under their heading to stdout."""
    if not sys.stdout.isatty():
        plain = "\n\n".join("\n".join(_plain_lines(table)) for table in tables)
        write_line("\n".join([*heading, *([""] if heading else []), plain]))
        return
    tables = [table._replace(rows=[tuple(map(printable, row)) for row in table.rows]) for table in tables]
    console = Console(markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        for number, line in enumerate(heading):
            console.print(line, style="italic" if number else "bold")
        for table in tables:
            if heading or table is not tables[0]:
                console.print()
            if table.title:
                console.print(table.title, style="bold")
            fits = sum(table.widths) + _GAP * (len(table.widths) - 1) <= console.width
            for part in [_drawn(table)] if fits else _row_by_row(table, console.width):
                console.print(part)
    write(captured.get().encode())


def _plain_lines(table: Table) -> Iterator[str]:
    if table.title:
        yield table.title
    widths = table.widths
    for row in (table.columns, *table.rows):
        cells = [
            text.rjust(width) if i in table.numbers else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, name in enumerate(table.columns):
        drawn.add_column(name, justify="right" if i in table.numbers else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*row)
    return drawn


def _row_by_row(table: Table, width: int) -> Iterator[RenderableType]:
    """Each row as its first cell, and below it the others with the names of their columns, as many as fit on a line."""
    for first, *others in table.rows:
        yield Text(f"{table.columns[0]} {first}".strip(), style="underline")
        cells = zip(table.columns[1:], others, strict=True)
        named = [(f"{name} {text}" if i in table.numbers else text).strip() for i, (name, text) in enumerate(cells, 1)]
        line = ""
        for cell in filter(None, named):
            if line and len(line) + 2 + len(cell) > width - 2:
                yield from _indented(line, width)
                line = ""
            line += f"{'  ' * bool(line)}{cell}"
        yield from _indented(line, width)


def _indented(line: str, width: int) -> Iterator[Text]:
    for part in wrap(line, max(width - 2, 1), subsequent_indent="  "):
        yield Text(f"  {part}")
