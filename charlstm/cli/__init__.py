"""The command line: one file a command, each a thin Typer wrapper over a plain function.

Data goes to stdout, talk to stderr. What a command needs is imported inside it, so that `--help` is quick and nothing
that does not train loads torch.
"""

from typing import Annotated

import typer

from charlstm import __version__
from charlstm.cli.config import config_app
from charlstm.cli.eval import eval_command
from charlstm.cli.fill import fill_command
from charlstm.cli.sample import sample_command
from charlstm.cli.train import train_command

app = typer.Typer(
    name="charlstm",
    help="Train, sample and measure character-level LSTM language models.",
    epilog=(
        "Exit codes: 0 done · 1 a bug · 2 usage or settings · 3 input text · 4 run folder or checkpoint · "
        "5 training diverged · 6 input or output failed · 130 interrupted, 143 terminated (saved first) · "
        "141 the reader closed the pipe."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train")(train_command)
app.command("sample")(sample_command)
app.command("eval")(eval_command)
app.command("fill")(fill_command)
app.add_typer(config_app, name="config")


def main() -> None:
    """Run the program; it ends the process with one of the exit codes of `errors`."""
    app(prog_name="charlstm")


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
