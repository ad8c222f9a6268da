"""Runs at a glance: what each was trained on, how far, and how well."""

import math
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charlstm.errors import CharLSTMError, RunError
from charlstm.files import read_bounded
from charlstm.runs.checkpoints import MAX_SCALARS_BYTES, PROGRESS, checkpoint_names
from charlstm.runs.finding import began_at, open_run, run_folders
from charlstm.runs.folder import Run
from charlstm.runs.progress import Progress, decode_progress
from charlstm.weights import count_weights


@dataclass(frozen=True)
class RunSummary:
    """A run and the figures that are read without its weights."""

    run: Run
    began_at: float  # seconds since 1970
    parameters: int
    progress: Progress  # of the newest checkpoint
    bytes: int  # of all its files

    @property
    def best_bits(self) -> float | None:
        """Bits per character, or byte, of the best validation; None if there was none."""
        best = self.progress.best_loss
        return None if best is None else best / math.log(2)


def list_runs() -> tuple[list[RunSummary], Sequence[CharLSTMError]]:
    """The runs in runs/, newest first, and what is wrong with those that cannot be read."""
    summaries: list[RunSummary] = []
    problems: list[CharLSTMError] = []
    for folder in run_folders():
        try:
            summaries.append(_summary(open_run(folder)))
        except CharLSTMError as problem:  # SettingsError: another version's settings, or changed by hand
            problems.append(problem)
        except OSError as error:  # a checkpoint that a training run removed meanwhile
            problems.append(RunError(f"{folder} could not be read: {error.strerror}"))
        except RecursionError:  # of rglob before Python 3.13
            problems.append(RunError(f"{folder} could not be read: folders in it are nested too deeply"))
    return summaries, problems


def _summary(run: Run) -> RunSummary:
    names = checkpoint_names(run)
    progress = Progress()
    if names:
        path = run.checkpoints / names[-1] / PROGRESS
        progress = decode_progress(read_bounded(path, MAX_SCALARS_BYTES), where=str(path))
    return RunSummary(
        run,
        began_at(run.folder),
        count_weights(run.settings.model, run.vocab.size),
        progress,
        sum(map(_size, run.folder.rglob("*"))),
    )


def _size(path: Path) -> int:
    """The bytes of a file; 0 of anything else, and of one that a training run has removed meanwhile."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
