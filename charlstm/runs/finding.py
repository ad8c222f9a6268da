"""Which run is meant: the one that is named, or the newest that can do what is needed."""

import os
from contextlib import suppress
from pathlib import Path

from charlstm import environment
from charlstm.errors import CharLSTMError, RunError, SettingsError
from charlstm.files import disk_errors, read_bounded, write_file
from charlstm.runs.folder import MAX_POINTER_BYTES, RUNS_FOLDER, VOCAB, Run, is_run, read_run
from charlstm.settings import OBJECTIVE_USES


def open_run(folder: Path | None = None, *, needs: str | None = None) -> Run:
    """Open the run in a folder, as `named_folder` finds it; without one, the newest run that can do what is needed.

    needs: the objective that the run must have been trained for; None for any.
    Raises RunError if there is none, if it is no run folder, or if it has another objective.
    """
    if (named := folder or environment.run_folder()) is not None:
        return _read_usable_run(named_folder(named), needs)
    problems: list[CharLSTMError] = []
    for candidate in run_folders():
        try:
            return _read_usable_run(candidate, needs)
        except (RunError, SettingsError) as problem:  # of another version, or changed by hand
            problems.append(problem)
    raise (
        problems[0]
        if problems
        else RunError("there is no run here (in runs/): train one with `charlstm train`, or name one with --run")
    )


def _read_usable_run(folder: Path, needs: str | None) -> Run:
    run = read_run(folder)
    if needs is not None:
        refuse_other_objective(run, needs)
    return run


def refuse_other_objective(run: Run, needed: str) -> None:
    """Raise RunError unless the run was trained for the objective that is needed."""
    use = OBJECTIVE_USES[run.settings.model.objective]
    if run.settings.model.objective != needed:
        raise RunError(
            f"{run.folder} {use.does} (use `{use.command}`), but a run that {OBJECTIVE_USES[needed].does} is needed: "
            "name another"
        )


def find_run(folder: Path | None = None) -> Path:
    """The folder that is named, or that of the newest run. Raises RunError if there is none."""
    named = folder or environment.run_folder()
    return open_run().folder if named is None else named_folder(named)


def named_folder(name: Path) -> Path:
    """The folder of a run that is named by its path or, if it is in runs/, by its name alone."""
    in_runs = RUNS_FOLDER / name
    return in_runs if len(name.parts) == 1 and not is_run(name) and is_run(in_runs) else name


def run_folders() -> list[Path]:
    """The run folders in runs/, and the one that runs/latest names wherever it is, newest first."""
    newest = newest_folder()
    found = set(RUNS_FOLDER.iterdir()) if RUNS_FOLDER.is_dir() else set()
    folders = [folder for folder in found | {newest} if folder is not None and is_run(folder)]
    return sorted(folders, key=lambda folder: (folder == newest, began_at(folder), folder.name), reverse=True)


def newest_folder() -> Path | None:
    """The folder that runs/latest names, None if it names none."""
    try:
        name = os.fsdecode(read_bounded(RUNS_FOLDER / "latest", MAX_POINTER_BYTES).removesuffix(b"\n"))
        return Path(os.path.normpath(RUNS_FOLDER / name))  # runs/../elsewhere is elsewhere
    except (RunError, ValueError):
        return None


def began_at(folder: Path) -> float:
    """When a run was begun, in seconds since 1970: its vocabulary is never written again."""
    with suppress(OSError):
        return (folder / VOCAB).stat().st_mtime
    return 0.0


def mark_newest(run: Run) -> None:
    """Have runs/latest name this run, for the commands that read without being told which. Raises InputOutputError."""
    with disk_errors(str(RUNS_FOLDER / "latest")):
        RUNS_FOLDER.mkdir(exist_ok=True)
        write_file(RUNS_FOLDER / "latest", os.fsencode(os.path.relpath(run.folder, RUNS_FOLDER)) + b"\n")
