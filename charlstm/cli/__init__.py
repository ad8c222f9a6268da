"""The command line: one file a command, each a thin Typer wrapper over a plain function.

Data goes to stdout, diagnostics to stderr. What a command needs is imported inside it, so that `--help` is quick and
only what trains or measures loads torch.
"""

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from charlstm import __version__
from charlstm.cli.classify import classify_command
from charlstm.cli.compare import compare_command
from charlstm.cli.config import config_app
from charlstm.cli.eval import eval_command
from charlstm.cli.fill import fill_command
from charlstm.cli.help import PlainHelp, add_command, by_rich
from charlstm.cli.inspect import inspect_command
from charlstm.cli.novelty import novelty_command
from charlstm.cli.plot import plot_command
from charlstm.cli.runs import runs_command
from charlstm.cli.sample import sample_command
from charlstm.cli.score import score_command
from charlstm.cli.terminal import prepare_streams, print_diagnostic, report_errors, write_line
from charlstm.cli.trace import trace_command
from charlstm.cli.train import train_command
from charlstm.errors import BROKEN_PIPE_EXIT_CODE, InputOutputError, SettingsError


class Program(TyperGroup):
    """The commands; an error in the command line itself is one sentence too."""

    @report_errors
    def main(self, *args: Any, **kwargs: Any) -> None:
        """Run a command and end the process with its exit code."""
        try:
            os.getcwd()
        except OSError:  # in which torch, for one, cannot be loaded
            raise InputOutputError("the current folder is gone: change to another") from None
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise SettingsError(
                "training, measuring and gradients need torch, which is not installed here: "
                "pip install torch, or charlstm again without --no-deps"
            ) from None
        except typer.TyperException as error:
            raise _usage_error(error) from None
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # of the help, whose reader is gone
                raise SystemExit(BROKEN_PIPE_EXIT_CODE) from None
            raise
        raise SystemExit(code or 0)


app = typer.Typer(
    name="charlstm",
    cls=Program,
    help="Train, sample and measure character-level LSTM language models.",
    epilog=(
        "Exit codes: 0 done · 1 a bug · 2 usage or settings · 3 input text · 4 run folder or checkpoint · "
        "5 training diverged · 6 input or output failed · 130 SIGINT, 143 SIGTERM, 129 SIGHUP, 138 SIGUSR1 "
        "(saved first) · 141 the reader closed the pipe."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    train_command,
    sample_command,
    score_command,
    classify_command,
    novelty_command,
    runs_command,
    eval_command,
    fill_command,
    inspect_command,
    plot_command,
    trace_command,
    compare_command,
):
    add_command(app, command)
app.add_typer(config_app, name="config", short_help="Show settings, their schema and their reference page.")
TyperGroup.context_class.formatter_class = PlainHelp


def main() -> None:
    """Run the program; it ends the process with one of the exit codes of `errors`."""
    prepare_streams()
    app.rich_markup_mode = "rich" if by_rich() else None
    app(prog_name="charlstm")


def _show_version(asked: bool) -> None:
    if asked:
        write_line(__version__)
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _usage_error(error: typer.TyperException) -> SettingsError:
    """What the parser of the command line found wrong, with where to look it up."""
    message = error.format_message()
    if "\n" in message:  # the help, for want of a command
        print_diagnostic(message, keep="\n")
        raise SystemExit(SettingsError.exit_code)
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "charlstm"
    return SettingsError(f"{message[:1].lower()}{message[1:].rstrip('.')} (see `{command} --help`)")
