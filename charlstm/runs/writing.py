"""Who may write to a run folder: one process at a time, and only into the folder that it opened."""

import fcntl
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from charlstm.errors import DiskWarning, InputOutputError, RunError
from charlstm.files import REPLACED, UNFINISHED, UNSUPPORTED, disk_errors, end_replacement, remove, write_file
from charlstm.runs.folder import Run, inodes_of, is_run, read_run, with_checksum
from charlstm.settings import Settings

MOST_LOCKINGS = 30  # of a folder that a reader or a training run holds
BETWEEN_LOCKINGS_SECONDS = 0.01


@contextmanager
def only_writer(run: Run) -> Iterator[None]:
    """Be the only process that writes to the run, and clear what a killed one left unfinished.

    Raises RunError if another process is training it.
    """
    with disk_errors(str(run.folder)):
        handle = os.open(run.folder, os.O_RDONLY)
    try:
        try:
            _lock(handle)
        except BlockingIOError:
            raise RunError(
                f"{run.folder} is being trained by another process: wait for it, or start a new run"
            ) from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise InputOutputError(f"could not lock {run.folder}: {error.strerror}") from None
            warnings.warn(
                "this file system has no locks: make sure that nothing else trains this run", DiskWarning, stacklevel=1
            )
        refuse_replaced(run)
        with disk_errors(str(run.folder)):
            for replaced in run.checkpoints.glob(f"{REPLACED}*"):
                end_replacement(replaced)
            for left_over in [*run.folder.glob(f"{UNFINISHED}*"), *run.checkpoints.glob(f"{UNFINISHED}*")]:
                remove(left_over)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    """Lock an open folder, which whoever asks `is_being_written` may hold for a moment. Raises OSError."""
    for _ in range(MOST_LOCKINGS - 1):
        with suppress(BlockingIOError):
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(BETWEEN_LOCKINGS_SECONDS)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_being_written(run: Run) -> bool:
    """Whether a training run holds the folder."""
    try:
        handle = os.open(run.folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    finally:
        os.close(handle)
    return False


def refuse_replaced(run: Run) -> None:
    """Raise RunError if another folder, or a link, is where the run or its checkpoints were.

    Asked before each write and removal, so that neither happens there. As long as `only_writer` holds the folder that
    was opened, no other can have its number. One that is gone is left to whoever tries to write there.
    """
    with suppress(OSError):
        if run.checkpoints.is_symlink():
            raise RunError(f"{run.checkpoints} is a link, and nothing is written into its target: put a folder there")
        found = inodes_of(run.folder)
        if found != run.inodes[: len(found)]:
            what = run.folder if found[:1] != run.inodes[:1] else run.checkpoints
            raise RunError(
                f"{what} is no longer the folder that this training began in, but another in its place: nothing "
                "more is written; look for the one that was moved away, and go on with it by --resume"
            )


def rewrite_settings(run: Run, settings: Settings) -> Run:
    """Record the settings that a resumed run goes on with. Raises InputOutputError, RunError if it was replaced."""
    refuse_replaced(run)
    with disk_errors(str(run.folder)):
        write_file(run.folder / "config.yaml", with_checksum(settings))
    return replace(run, settings=settings)


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a run with a checkpoint; one that was ended before it had any is removed.

    Raises RunError if another process is training it.
    """
    if not is_run(folder) or (folder / "latest").exists():
        return (folder / "latest").exists()
    run = read_run(folder)
    with only_writer(run):
        discard_run(run)
    return False


def discard_run(run: Run) -> None:
    """Remove a run that could not begin."""
    refuse_replaced(run)
    shutil.rmtree(run.folder, ignore_errors=True)
