"""The run folder: its settings, vocabulary and metrics, and who may write to it. `checkpoints` has the rest.

runs/<name>/
    config.yaml      resolved settings, every field; the first line holds the sha256 of the others
    vocab.json       symbols, line ends, what becomes of an unknown character
    metrics.jsonl    one object a logged step
    checkpoints/     weights and training states
    best, latest     which of these is the best, and the newest
runs/latest          the newest run
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlstm.settings import MAX_SETTINGS_BYTES, Settings, dump_settings, load_settings
from charlstm.files import REPLACED, UNFINISHED, disk_errors, put_back, read_regular, remove, write_whole
from charlstm.errors import RunError
from charlstm.text.vocabulary import Vocab

RUNS_FOLDER = Path("runs")
MAX_VOCAB_BYTES = 20_000_000  # every character that Unicode has
MAX_POINTER_BYTES = 1_000


@dataclass(frozen=True)
class Run:
    """An open run folder."""

    folder: Path
    settings: Settings
    vocab: Vocab

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "checkpoints"


def create_run(folder: Path | None, settings: Settings, vocab: Vocab, *, name: str) -> Run:
    """Make a new run folder: `folder`, or runs/<name> with a number added if that is taken.

    Raises RunError if `folder` already holds something: a run is never overwritten.
    """
    with disk_errors("the run folder"):
        if folder is None:
            folder = _free_folder(RUNS_FOLDER / name)
        refuse_taken(folder)
        try:
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            write_whole(folder / "config.yaml", _sealed_settings(settings))
            write_whole(folder / "vocab.json", vocab.to_json().encode())
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return Run(folder, settings, vocab)


def mark_newest(run: Run) -> None:
    """Have runs/latest name this run, for the commands that read without being told which."""
    with disk_errors(str(RUNS_FOLDER / "latest")):
        RUNS_FOLDER.mkdir(exist_ok=True)
        write_whole(RUNS_FOLDER / "latest", os.fsencode(os.path.relpath(run.folder, RUNS_FOLDER)) + b"\n")


def refuse_taken(folder: Path) -> None:
    """Raise RunError if a new run may not be put here, because something is here already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is not empty: name a new folder, or continue the run with --resume {folder}")


def find_run(folder: Path | None) -> Path:
    """The run folder to read: the one given, else the newest, which runs/latest names."""
    if folder is not None:
        return folder
    try:
        return RUNS_FOLDER / read_regular(RUNS_FOLDER / "latest", MAX_POINTER_BYTES).decode().strip()
    except (RunError, ValueError):
        raise RunError(
            "there is no run here (runs/latest names none): train one with `charlstm train`, or name one with --run"
        ) from None


def open_run(folder: Path) -> Run:
    """Read a run's settings and vocabulary. Raises RunError if it is not a run folder."""
    if not (folder / "config.yaml").is_file():
        raise RunError(f"{folder} is not a run folder (it has no config.yaml): name one that `charlstm train` made")
    vocab_file = folder / "vocab.json"
    return Run(
        folder,
        _read_settings(folder / "config.yaml"),
        Vocab.from_json(read_regular(vocab_file, MAX_VOCAB_BYTES), where=str(vocab_file)),
    )


def rewrite_settings(run: Run, settings: Settings) -> Run:
    """Record settings that a resumed run goes on with."""
    with disk_errors(str(run.folder)):
        write_whole(run.folder / "config.yaml", _sealed_settings(settings))
    return Run(run.folder, settings, run.vocab)


@contextmanager
def only_writer(run: Run) -> Iterator[None]:
    """Hold the run folder for one process that writes, and clear what a killed one left; a second gets RunError."""
    with disk_errors(str(run.folder)):
        handle = os.open(run.folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"{run.folder} is being trained by another process: wait for it, or start a new run"
            ) from None
        with disk_errors(str(run.folder)):
            for replaced in run.checkpoints.glob(f"{REPLACED}*"):
                put_back(replaced)
            for left_over in [*run.folder.glob(f"{UNFINISHED}*"), *run.checkpoints.glob(f"{UNFINISHED}*")]:
                remove(left_over)
        yield
    finally:
        os.close(handle)


def append_metrics(run: Run, facts: Mapping[str, Any]) -> None:
    """Add one object to metrics.jsonl, whole or not at all."""
    path = run.folder / "metrics.jsonl"
    with disk_errors(str(path)), path.open("ab", buffering=0) as file:
        end, line = file.tell(), json.dumps(facts).encode() + b"\n"
        if file.write(line) < len(line):  # the disk filled up
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def cut_metrics(run: Run, step: int) -> None:
    """Leave in metrics.jsonl what was logged up to a step: a run that resumes there will log the rest again."""
    path = run.folder / "metrics.jsonl"
    if path.exists():
        lines = read_regular(path).splitlines(keepends=True)
        with disk_errors(str(path)):
            write_whole(path, b"".join(line.rstrip(b"\n") + b"\n" for line in lines if _step_of(line) <= step))


def _sealed_settings(settings: Settings) -> bytes:
    lines = dump_settings(settings).encode()
    return _seal(lines) + lines


def _read_settings(path: Path) -> Settings:
    """A run's settings, after the seal in the first line agrees with the others; one may delete it to edit them."""
    data = read_regular(path, MAX_SETTINGS_BYTES)
    seal, newline, lines = data.partition(b"\n")
    if not newline or (seal.startswith(_seal(b"")[:9]) and seal + newline != _seal(lines)):
        raise RunError(
            f"{path} is not as charlstm wrote it: restore it, change settings with --set or, "
            "if the change is yours, delete the first line"
        )
    return load_settings(path)


def _seal(lines: bytes) -> bytes:
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


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")  # a line that a kill cut short
