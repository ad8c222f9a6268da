"""How help is laid out: by rich on a terminal wide enough for its columns, else plain, as wide as the terminal."""

import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from charlstm import environment

RICH_COLUMNS = 80  # with fewer, rich's columns leave a few characters for each sentence
WIDEST_COLUMNS = 100  # longer lines are hard to read


def by_rich() -> bool:
    """Whether rich is to print the help."""
    return sys.stdout.isatty() and environment.terminal_redraws() and shutil.get_terminal_size().columns >= RICH_COLUMNS


def add_command(app: typer.Typer, command: Callable[..., None]) -> None:
    """Register a function by its name; the first line of its help stands whole where the commands are listed."""
    first_line, _, _ = (command.__doc__ or "").partition("\n")
    app.command(command.__name__.removesuffix("_command"), short_help=first_line)(command)


_Formatter: Any = TyperGroup.context_class.formatter_class


class PlainHelp(_Formatter):  # type: ignore[misc]
    """Typer's formatter, down to 40 columns: what does not fit beside an option stands below it."""

    def __init__(self, **_sizes: int | None) -> None:
        super().__init__(width=min(shutil.get_terminal_size().columns, WIDEST_COLUMNS) - 2)

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names and what they mean in two columns."""
        super().write_dl(rows, min(col_max, self.width // 3), col_spacing)
