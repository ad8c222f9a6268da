"""`charlstm novelty`: what of a text stands in the training text. Loads no torch."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm import environment
from charlstm.cli.runs import take_run
from charlstm.cli.terminal import RunOption, TrustOption, read_input, report_errors, write_json
from charlstm.cli.waiting import working

if TYPE_CHECKING:
    from charlstm.text import Copies


@report_errors
def novelty_command(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="A generated text, or lines; - for stdin.")] = "-",
    run: RunOption = None,
    trust_sources: TrustOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object instead of a table.")] = False,
) -> None:
    """Show how much of a text stands in the training text, beside how much of the validation text does.

    A gram of 8, 16 or 32 characters is a copy if the training text has it too, a line (or document) if the training
    text has the same whole one. A text that the model never saw has copies as well: the validation text shows how many.
    """
    environment.limit_numpy_threads()
    from charlstm.api import find_novelty

    opened = take_run(run)
    text = read_input(file)
    with working("looking through the training text"):
        own, usual = find_novelty(opened, text, trust_sources=trust_sources)
    named = {"lines": "documents" if opened.vocab.has_boundary else "lines", "unit": f"{opened.vocab.unit}s"}
    if as_json:
        write_json({**_fields(own, named), "validation": _fields(usual, named) if usual is not None else None})
        return
    from charlstm.cli.tables import Table, print_tables

    rows = [
        (name, *(_shown(_fields(one, named)[name]) for one in (own, usual) if one is not None))
        for name in _fields(own, named)
    ]
    columns = ("", "text", *(["validation"] if usual is not None else []))
    print_tables([], [Table("", columns, rows, numbers={1, 2})])


def _fields(copies: "Copies", named: dict[str, str]) -> dict[str, Any]:
    """The figures by their names."""
    lines, unit = named["lines"], named["unit"]
    return {
        unit: copies.chars,
        **{f"copied_{n}_grams": share for n, share in copies.shares.items()},
        f"longest_copy_{unit}": copies.longest,
        "longest_copy_at": copies.place if copies.longest else None,
        "in_training_at": copies.place_in_training if copies.longest else None,
        lines: copies.documents,
        f"copied_{lines}": copies.share_of_documents,
    }


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.2%}" if isinstance(value, float) else f"{value:,}"
