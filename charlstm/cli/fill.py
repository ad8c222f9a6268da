"""`charlstm fill`: a text with its gaps filled by a model that reads from both sides. Loads no torch."""

from typing import Annotated

import typer

from charlstm import environment
from charlstm.cli.runs import take_run
from charlstm.cli.terminal import (
    RawOption,
    RunOption,
    is_typed,
    print_diagnostic,
    read_input,
    report_errors,
    text_writer,
)
from charlstm.errors import SettingsError


@report_errors
def fill_command(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="A text with gaps; - or nothing for stdin.")] = "-",
    run: RunOption = None,
    mask: Annotated[str, typer.Option("--mask", metavar="CHAR", help="The character that stands for a gap.")] = "_",
    temperature: Annotated[
        float, typer.Option("--temp", metavar="T", min=0.0, help="Draw at this temperature; 0: the most likely.")
    ] = 0.0,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, help="Same seed, same text; without, a new one each time."),
    ] = None,
    raw: RawOption = False,
) -> None:
    """Fill the gaps of a text. Needs a run trained with model.bidirectional and model.objective cloze."""
    gap = mask.encode("utf-8", "surrogateescape")
    if len(gap.decode("utf-8", "surrogateescape")) != 1:  # its characters whatever the locale
        raise SettingsError(f"--mask is {mask!r}, but must be one character")
    if seed is None:
        import secrets

        seed = secrets.randbelow(2**32)
        if temperature > 0:
            print_diagnostic(f"seed {seed}")
    environment.limit_numpy_threads()
    from charlstm.api import fill

    opened = take_run(run, needs="cloze")  # before anything is typed
    if is_typed(file):
        print_diagnostic(f"type a text with {mask} for each gap; end it with Ctrl-D on a new line")
    text = read_input(file)
    text_writer(raw=raw)(fill(opened, text, mask=gap, temperature=temperature, seed=seed))
