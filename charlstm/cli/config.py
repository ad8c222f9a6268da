"""`charlstm config`: the settings, resolved, as a schema, and as a page."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from charlstm.cli.help import add_command
from charlstm.cli.terminal import print_diagnostic, report_errors, write

config_app = typer.Typer(help="Show settings, their schema and their reference page.", no_args_is_help=True)

SetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SETTING=VALUE", help="Override a setting, as in training.max_minutes=5. Repeatable."
    ),
]


@report_errors
def show_command(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML settings; without, the defaults.")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Print every setting, resolved, as YAML."""
    from charlstm.settings import dump_settings, load_asked_settings

    asked = load_asked_settings(config, overrides or ())
    write(dump_settings(asked.settings).encode())
    if config is not None and asked.is_automatic:
        print_diagnostic("model: auto: training chooses the model, and how to train it, in place of these defaults")


@report_errors
def schema_command() -> None:
    """Print the JSON Schema of a settings file, for editors that complete and check."""
    import json

    from charlstm.settings import settings_schema

    write(json.dumps(settings_schema(), indent=2).encode() + b"\n")


@report_errors
def reference_command() -> None:
    """Print the reference page: each setting with its values, default and meaning."""
    from charlstm.settings import settings_reference

    write(settings_reference().encode())


for command in (show_command, schema_command, reference_command):
    add_command(config_app, command)
