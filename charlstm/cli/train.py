"""`charlstm train`: settings and text in, a run folder out."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from charlstm.cli.config import SetOption
from charlstm.cli.terminal import TrustOption, report_errors
from charlstm.errors import Interrupted, SettingsError


@report_errors
def train_command(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML settings; without, the defaults on python-stdlib.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="New run folder (default runs/<config name>).")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Continue a run from its latest checkpoint.")
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option("--init-from", metavar="RUN", help="Start from another run's best weights.")
    ] = None,
    trust_sources: TrustOption = False,
    overrides: SetOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Train a model and keep its best and latest checkpoints in a run folder."""
    if resume is not None and (config is not None or run is not None or init_from is not None):
        raise SettingsError(
            "--resume goes on with the run's own folder, settings and weights: leave CONFIG, --run and --init-from out"
        )
    from charlstm.cli.report import Report
    from charlstm.cli.signals import stop_requests
    from charlstm.cli.texts import standard_input
    from charlstm.runs import open_run
    from charlstm.settings import load_settings
    from charlstm.training import resume_session, start_session

    if resume is not None:
        stdin = standard_input(open_run(resume).settings.data.sources)
        opening = resume_session(resume, overrides or (), stdin=stdin, trust_sources=trust_sources)
    else:
        settings = load_settings(config, overrides or ())
        name = config.stem if config is not None else "default"
        stdin = standard_input(settings.data.sources)
        opening = start_session(settings, folder=run, name=name, init_from=init_from, stdin=stdin)
    with opening as session, stop_requests(quiet=quiet) as request, Report(quiet=quiet) as report:
        ended = session.train(tell=report, stop=lambda: request.signal_number is not None)
    if request.signal_number is not None and ended.stopped_by is None:
        raise Interrupted(
            f"stopped and saved after step {ended.progress.step}, "
            f"go on with: charlstm train --resume {shlex.quote(str(ended.run.folder))}",
            signal_number=request.signal_number,
        )
