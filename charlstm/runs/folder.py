"""The run folder: its settings, its vocabulary, the text it was trained on, and who may write to it.

runs/<name>/
    config.yaml      resolved settings, every field; the first line holds the sha256 of the others
    vocab.json       symbols, line ends, what becomes of an unknown character
    text.json        the fingerprint of the text
    metrics.jsonl    one row a logged step (`metrics`)
    checkpoints/     weights and training states (`checkpoints`)
    best, latest     which of these is the best, and the newest
runs/latest          the newest run
"""

import fcntl
import hashlib
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from charlstm import environment
from charlstm.errors import DiskWarning, InputOutputError, RunError
from charlstm.files import (
    REPLACED,
    UNFINISHED,
    UNSUPPORTED,
    disk_errors,
    end_replacement,
    read_bounded,
    remove,
    write_file,
)
from charlstm.settings import (
    MAX_SETTINGS_BYTES,
    OBJECTIVE_USES,
    ModelSettings,
    Settings,
    TrainingSettings,
    dump_settings,
    parse_settings,
    plain,
)
from charlstm.text import Vocab

RUNS_FOLDER = Path("runs")
VOCAB, TEXT = "vocab.json", "text.json"
MAX_VOCAB_BYTES = 20_000_000  # every character that Unicode has
MAX_POINTER_BYTES = 1_000  # also of text.json
MOST_LOCKINGS = 30  # of a folder that a reader or a training run holds
BETWEEN_LOCKINGS_SECONDS = 0.01
EARLIER = Settings(  # the values that runs have which were begun before there were these settings
    model=ModelSettings(skip_connections=False),
    training=TrainingSettings(beginning_lanes=0, segment_steps=None, threads_per_shard=1),
)


class TextIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text of a run: the sha256 of its content and of every setting that decides its ids (`Corpus.fingerprint`)."""

    fingerprint: str


@dataclass(frozen=True)
class Run:
    """An open run folder. `text` is None in the folder of a version that did not record it there."""

    folder: Path
    settings: Settings
    vocab: Vocab
    text: TextIdentity | None
    inodes: tuple[tuple[int, int], ...] = ()  # of the folder and its checkpoints: device and number; none if on no disk

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "checkpoints"


def create_run(folder: Path | None, settings: Settings, vocab: Vocab, text: TextIdentity, *, name: str) -> Run:
    """Make a new run folder: `folder`, or runs/<name> with a number added if that is taken.

    Raises RunError if `folder` already holds something: a run is never overwritten.
    """
    with disk_errors("the run folder"):
        if folder is None:
            folder = _free_folder(RUNS_FOLDER / name)
        refuse_taken(folder)
        try:
            (folder / "checkpoints").mkdir(parents=True)
        except FileExistsError:
            raise RunError(f"{folder} has just been taken by another process: name a new folder") from None
        try:
            write_file(folder / "config.yaml", _with_checksum(settings))
            write_file(folder / VOCAB, vocab.to_json().encode())
            write_file(folder / TEXT, msgspec.json.encode(text))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Run(folder, settings, vocab, text, _inodes(folder))


def open_run(folder: Path | None = None, *, needs: str | None = None) -> Run:
    """Open the run in a folder, as `named_folder` finds it; without one, the newest run that can do what is needed.

    needs: the objective that the run must have been trained for; None for any.
    Raises RunError if there is none, if it is no run folder, or if it has another objective.
    """
    if (named := folder or environment.run_folder()) is not None:
        return _read_usable_run(named_folder(named), needs)
    problems = []
    for candidate in run_folders():
        try:
            return _read_usable_run(candidate, needs)
        except RunError as problem:
            problems.append(problem)
    raise (
        problems[0]
        if problems
        else RunError("there is no run here (in runs/): train one with `charlstm train`, or name one with --run")
    )


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
    return in_runs if len(name.parts) == 1 and not _is_run(name) and _is_run(in_runs) else name


def run_folders() -> list[Path]:
    """The run folders in runs/, and the one that runs/latest names wherever it is, newest first."""
    newest = newest_folder()
    found = set(RUNS_FOLDER.iterdir()) if RUNS_FOLDER.is_dir() else set()
    folders = [folder for folder in found | {newest} if folder is not None and _is_run(folder)]
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


def refuse_taken(folder: Path) -> None:
    """Raise RunError if a new run may not be put here, because something is here already."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file: name a new folder")
    if folder.exists() and any(folder.iterdir()):
        if _is_run(folder):
            raise RunError(f"{folder} is a run: name a new folder, or continue the run with --resume {folder}")
        raise RunError(f"{folder} is not empty: name a new folder")


def rewrite_settings(run: Run, settings: Settings) -> Run:
    """Record the settings that a resumed run goes on with. Raises InputOutputError, RunError if it was replaced."""
    refuse_replaced(run)
    with disk_errors(str(run.folder)):
        write_file(run.folder / "config.yaml", _with_checksum(settings))
    return replace(run, settings=settings)


def refuse_replaced(run: Run) -> None:
    """Raise RunError if another folder, or a link, is where the run or its checkpoints were.

    Asked before each write and removal, so that neither happens there. As long as `only_writer` holds the folder that
    was opened, no other can have its number. One that is gone is left to whoever tries to write there.
    """
    with suppress(OSError):
        if run.checkpoints.is_symlink():
            raise RunError(f"{run.checkpoints} is a link, and nothing is written into its target: put a folder there")
        found = _inodes(run.folder)
        if found != run.inodes[: len(found)]:
            what = run.folder if found[:1] != run.inodes[:1] else run.checkpoints
            raise RunError(
                f"{what} is no longer the folder that this training began in, but another in its place: nothing "
                "more is written; look for the one that was moved away, and go on with it by --resume"
            )


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


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a run with a checkpoint; one that was ended before it had any is removed.

    Raises RunError if another process is training it.
    """
    if not _is_run(folder) or (folder / "latest").exists():
        return (folder / "latest").exists()
    run = _read_run(folder)
    with only_writer(run):
        discard_run(run)
    return False


def discard_run(run: Run) -> None:
    """Remove a run that could not begin."""
    refuse_replaced(run)
    shutil.rmtree(run.folder, ignore_errors=True)


def _read_usable_run(folder: Path, needs: str | None) -> Run:
    run = _read_run(folder)
    if needs is not None:
        refuse_other_objective(run, needs)
    return run


def _is_run(folder: Path) -> bool:
    try:
        return (folder / "config.yaml").is_file()
    except OSError:  # whoever reads it says why it cannot be read
        return True


def _read_run(folder: Path) -> Run:
    if not _is_run(folder):
        raise RunError(f"{folder} is not a run folder (it has no config.yaml): name one that `charlstm train` made")
    try:
        inodes = _inodes(folder)
    except OSError as error:
        raise RunError(f"could not read {folder}: {error.strerror}") from None
    settings = _read_settings(folder / "config.yaml")
    vocab = Vocab.from_json(read_bounded(folder / VOCAB, MAX_VOCAB_BYTES), where=str(folder / VOCAB))
    text = _read_text_identity(folder / TEXT) if (folder / TEXT).exists() else None
    return Run(folder, settings, vocab, text, inodes)


def _inodes(folder: Path) -> tuple[tuple[int, int], ...]:
    """The device and the number of a run folder and, if it has one, of that of its checkpoints. Raises OSError."""
    found = [folder.stat()]
    with suppress(OSError):
        found.append((folder / "checkpoints").lstat())
    return tuple((one.st_dev, one.st_ino) for one in found)


def _read_text_identity(path: Path) -> TextIdentity:
    try:
        return msgspec.json.decode(read_bounded(path, MAX_POINTER_BYTES), type=TextIdentity)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged ({error}): restore it from a copy") from None


def _read_settings(path: Path) -> Settings:
    """A run's settings, whose checksum, in the first line, must be right; one may delete it to edit them."""
    data = read_bounded(path, MAX_SETTINGS_BYTES)
    checksum, newline, lines = data.partition(b"\n")
    if not newline or (checksum.startswith(_checksum_line(b"")[:9]) and checksum + newline != _checksum_line(lines)):
        raise RunError(
            f"{path} is not as charlstm wrote it: restore it, change settings with --set or, "
            "if the change is yours, delete the first line"
        )
    return parse_settings(data, where=plain(str(path)), base=EARLIER)


def _with_checksum(settings: Settings) -> bytes:
    lines = dump_settings(settings).encode()
    return _checksum_line(lines) + lines


def _checksum_line(lines: bytes) -> bytes:
    digest = hashlib.sha256(lines).hexdigest()
    return f"# sha256 {digest} of the lines below (delete this line if you change them)\n".encode()


def _free_folder(wanted: Path) -> Path:
    """The folder itself, or the first of wanted-2, wanted-3, … that does not exist; created, so that it is ours."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number = 1 if wanted.name != "latest" else 2  # runs/latest is the pointer
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder
