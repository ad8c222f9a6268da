"""`charlstm train`: settings and text in, a run folder out."""

import os
import shlex
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from charlstm import environment
from charlstm.cli.config import SetOption
from charlstm.cli.terminal import TrustOption, print_diagnostic, report_errors
from charlstm.cli.waiting import working
from charlstm.errors import DivergedError, Interrupted, ProcessLostError, RunError, SettingsError, ToldElsewhereError

if TYPE_CHECKING:
    from charlstm.machine import Meeting, Processes
    from charlstm.settings import AskedSettings
    from charlstm.training import Session

SETTINGS_ENDINGS = (".yaml", ".yml")


@report_errors
def train_command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG.yaml] [TEXT]...",
            help="Settings, and files, folders, globs, corpora or - for stdin to train on in place of data.sources; "
            "without settings, they are chosen for the text, the time and this machine; without a text, python-stdlib.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="DIR", help="New run folder (default: in runs/, named after CONFIG or TEXT)."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Continue a run from its latest checkpoint.")
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option("--init-from", metavar="RUN", help="Start from another run's best weights.")
    ] = None,
    trust_sources: TrustOption = False,
    processes: Annotated[
        int,
        typer.Option("--processes", metavar="N", min=1, max=1024, help="Train in so many processes on this machine."),
    ] = 1,
    overrides: SetOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train a model and keep its best and latest checkpoints in a run folder."""
    if resume is not None and (inputs or run is not None or init_from is not None):
        raise SettingsError(
            "--resume goes on with the run's own folder, settings, text and weights: "
            "leave CONFIG, TEXT, --run and --init-from out"
        )
    place = environment.process_place()
    if processes > 1 and place is not None:
        raise SettingsError("--processes starts processes of its own, which torchrun has done already: leave it out")
    asked, name = _asked_settings(inputs or (), overrides or ()) if resume is None else (None, "")
    if not inputs and resume is None and not quiet and _is_pipe(sys.stdin):
        print_diagnostic("standard input is a pipe that is not read: give - to train on it")
    environment.prepare_torch()
    with nullcontext() if quiet else working("loading torch"):
        from charlstm.cli.processes import train_in_processes
        from charlstm.cli.texts import standard_input
        from charlstm.runs import open_run
        from charlstm.training import resume_session, start_session

    def open_session(together: "Processes") -> "tuple[Sequence[str], AbstractContextManager[Session]]":
        again = resume if resume is not None else _begun_before(run, together)
        if again is None:
            assert asked is not None
            sources: Sequence[str] = asked.settings.data.sources
            return sources, start_session(
                asked.settings,
                folder=run,
                name=name,
                given=asked.given if asked.is_automatic else None,
                init_from=init_from,
                stdin=standard_input(sources) if together.leads_machine else None,
                processes=together,
            )
        with together.agreeing():
            sources = open_run(again).settings.data.sources if together.leads else ()
        stdin = standard_input(sources) if together.leads_machine else None
        changed = overrides if resume is not None and overrides else ()
        return sources, resume_session(
            again, changed, stdin=stdin, trust_sources=trust_sources or resume is None, processes=together
        )

    train = partial(_train, open_session, quiet=quiet)
    if processes > 1:
        train_in_processes(processes, train)
        return
    try:
        train(place, None)
    except ProcessLostError as error:
        raise error if place is None or place.local_rank == 0 else ToldElsewhereError(error) from None


def _train(
    open_session: "Callable[[Processes], tuple[Sequence[str], AbstractContextManager[Session]]]",
    place: environment.ProcessPlace | None,
    meeting: "Meeting | None",
    *,
    quiet: bool,
) -> None:
    """Train as the only process, or as one of several, of which the first prints."""
    from charlstm.cli.report import Report
    from charlstm.cli.signals import stop_requests
    from charlstm.cli.texts import reading
    from charlstm.machine import join_processes

    if place is not None and place.rank and not place.local_rank and not quiet:  # on each further machine
        print_diagnostic(f"process {place.rank} of {place.size}; process 0 prints all else, and has the run folder")
    with ExitStack() as stack:
        together = stack.enter_context(join_processes(place, meeting))
        quiet = quiet or not together.leads
        sources, opening = open_session(together)
        with nullcontext() if quiet else reading(sources, "reading the text and measuring this machine"):
            session = stack.enter_context(opening)
        request = stack.enter_context(stop_requests(quiet=quiet))
        report = stack.enter_context(Report(quiet=quiet))
        try:
            ended = session.train(tell=report, stop=lambda: request.signal_number or 0)
        except (DivergedError, RunError) as error:  # which all of them raise
            raise error if together.leads_machine else ToldElsewhereError(error) from None
    if ended.asked_by and ended.stopped_by is None:
        interrupted = Interrupted(
            f"stopped and saved after step {ended.progress.step}, "
            f"go on with: charlstm train --resume {shlex.quote(str(ended.run.folder))}",
            signal_number=ended.asked_by,
        )
        raise interrupted if together.leads_machine else ToldElsewhereError(interrupted)


def _begun_before(run: Path | None, together: "Processes") -> Path | None:
    """The run to go on with, where torchrun starts this command again after a failure; None for a new one."""
    from charlstm.runs import is_begun

    if not environment.is_restarted():
        return None
    with together.agreeing():
        if run is None:
            raise SettingsError(
                "with --max-restarts torchrun starts this command again: name the run that it is to go on with by --run"
            )
        begun = together.leads and is_begun(run)
    return run if together.share_number(begun) else None


def _asked_settings(inputs: Sequence[str], overrides: Sequence[str]) -> "tuple[AskedSettings, str]":
    """The settings that a command line gives, and the name of its run: that of the text, or of the settings' file."""
    from charlstm.settings import load_asked_settings, override_setting

    configs = [each for each in inputs if each.lower().endswith(SETTINGS_ENDINGS)]
    texts = [each for each in inputs if each not in configs]
    if len(configs) > 1:
        raise SettingsError(f"{' and '.join(configs)} are both settings: give one file of settings")
    asked = load_asked_settings(Path(configs[0]) if configs else None, overrides)
    settings = asked.settings
    if not texts:
        return asked, _name_of(Path(configs[0])) if configs else name_of_text(settings.data.sources[0])
    if any(override.partition("=")[0].strip() == "data.sources" for override in overrides):
        raise SettingsError(f"the text is {' '.join(texts)} and also set by --set data.sources: leave one of them out")
    settings = override_setting(settings, "data.sources", texts, option="TEXT")
    return asked._replace(settings=settings), name_of_text(texts[0])


def _is_pipe(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # closed, or no file
        return False


def name_of_text(source: str) -> str:
    """What a run is called that is trained on a source: its file or folder, without what it ends in."""
    from charlstm.text import COMPRESSED_ENDINGS

    if source == "-":
        return "stdin"
    path = Path(os.path.abspath(os.path.expanduser(source)))
    while set(path.name) & set("*?["):  # a pattern is called by the folder it is in
        path = path.parent
    if path.is_dir():
        return path.name or "text"
    return _name_of(path.with_suffix("") if path.suffix in COMPRESSED_ENDINGS else path)


def _name_of(path: Path) -> str:
    """The name of a file without its ending, or "text" where that is no name."""
    return path.stem if path.stem.strip(".") else "text"
