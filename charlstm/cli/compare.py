"""`charlstm compare`: a cell written by hand beside torch's own kernel, with the same weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.cells import CELLS
from charlstm.cli.terminal import report_errors, write_line
from charlstm.cli.waiting import working
from charlstm.errors import SettingsError

if TYPE_CHECKING:
    from charlstm.teaching import Example

DRAWN_SIZES = {"hidden_size": 3, "input_size": 2, "steps": 4, "seed": 1}


@report_errors
def compare_command(
    what: Annotated[str, typer.Argument(metavar="CELL|FILE", help="lstm, gru or rnn, or a worked example (YAML).")],
    hidden_size: Annotated[
        int | None, typer.Option("--hidden-size", metavar="N", min=1, max=1024, help="Units of a drawn cell (3).")
    ] = None,
    input_size: Annotated[
        int | None, typer.Option("--input-size", metavar="N", min=1, max=1024, help="Numbers an input (2).")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", min=1, max=10_000, help="Inputs (4).")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Of all numbers (1).")] = None,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Read the inputs backwards as well.")] = False,
) -> None:
    """Compare a cell written by hand with torch's kernel: do they match?

    Both get the same weights and inputs; every output is shown, and the largest difference. The cell is drawn from a
    seed, or that of a worked example. By hand are the equations of cells.py, step by step.
    """
    given = {"hidden_size": hidden_size, "input_size": input_size, "steps": steps, "seed": seed}
    chosen = {name: number for name, number in given.items() if number is not None}
    example = _example(what, chosen, bidirectional=bidirectional)
    from charlstm.cli.tables import print_tables
    from charlstm.cli.trace_tables import kernel_table
    from charlstm.teaching import KERNELS, compare_with_kernel

    units = len(example.state["h"])
    for cell in example.cells:
        with working("running torch's kernel"):
            comparison = compare_with_kernel(example, cell)
        sizes = f"{units} units" if units > 1 else "1 unit"
        heading = f"{cell} by hand and torch.nn.{KERNELS[cell]}: the same weights, {sizes}, float64"
        print_tables([heading, *filter(None, [example.source])], [kernel_table(cell, comparison, units)])
        verdict = "they match, to rounding" if comparison.matches else "they do NOT match"
        write_line(f"\nlargest difference {comparison.largest_difference:.1e}: {verdict}")


def _example(what: str, sizes: dict[str, int], *, bidirectional: bool) -> "Example":
    """The worked example in a file, or one drawn of a cell."""
    from charlstm.settings import plain
    from charlstm.teaching import draw_example, load_example

    if what in CELLS:
        return draw_example(what, **{**DRAWN_SIZES, **sizes}, bidirectional=bidirectional)
    if not Path(what).exists():
        raise SettingsError(f"{plain(what)} is neither a file nor a cell: {', '.join(CELLS)}")
    if sizes or bidirectional:
        raise SettingsError(f"{plain(what)} brings its own sizes and weights: leave out the options that draw a cell")
    return load_example(Path(what))
