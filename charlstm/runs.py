"""The run folder: settings, vocabulary, metrics and checkpoints, written whole or not at all, verified when read.

    runs/<name>/
        config.yaml      resolved settings, every field; the first line holds the sha256 of the others
        vocab.json       symbols, line ends, what becomes of an unknown character
        metrics.jsonl    one object a logged step
        checkpoints/step-00001200/
            model.safetensors       weights
            training.safetensors    Adam's moments and the hidden state
            progress.json           scalars
            manifest.json           sha256 and size of each of these and of vocab.json
        best, latest     the name of a checkpoint, and a seal that ties the two together

Nothing is pickled, so nothing that is read can run code.
"""

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from charlstm.config import MAX_SETTINGS_BYTES, Settings, dump_settings, load_settings
from charlstm.engine import check_weights, weight_shapes
from charlstm.errors import InputOutputError, RunError
from charlstm.vocab import Vocab

Arrays: TypeAlias = dict[str, NDArray[Any]]
Pointer: TypeAlias = Literal["best", "latest"]

RUNS_FOLDER = Path("runs")
MODEL, TRAINING, PROGRESS = "model.safetensors", "training.safetensors", "progress.json"
MANIFEST = "manifest.json"
KEPT_LATEST = 2  # checkpoints besides the best
MAX_SCALARS_BYTES = 100_000  # of progress.json and of manifest.json, which hold a few lines
MAX_VOCAB_BYTES = 20_000_000  # every character that Unicode has
MAX_HEADER_BYTES = 1_000_000  # of a safetensors file
MAX_POINTER_BYTES = 1_000
UNFINISHED = ".unfinished-"  # how the name of what is being written begins
REPLACED = f"{UNFINISHED}replaced-"  # and that of a checkpoint whose place is being taken
_NAME = re.compile(r"step-[0-9]{8,15}")


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


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds. `training` is empty when only the model was asked for."""

    name: str
    weights: Arrays
    training: Arrays
    progress: dict[str, Any]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    bytes: int


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
        return RUNS_FOLDER / _read(RUNS_FOLDER / "latest", MAX_POINTER_BYTES).decode().strip()
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
        Vocab.from_json(_read(vocab_file, MAX_VOCAB_BYTES), where=str(vocab_file)),
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
                _put_back(replaced)
            for left_over in [*run.folder.glob(f"{UNFINISHED}*"), *run.checkpoints.glob(f"{UNFINISHED}*")]:
                _remove(left_over)
        yield
    finally:
        os.close(handle)


def save_checkpoint(
    run: Run, *, step: int, weights: Arrays, training: Arrays, progress: Mapping[str, Any], is_best: bool
) -> Path:
    """Write a checkpoint, point `latest` (and `best`) at it, and only then remove those no longer needed.

    At every moment, also that of a power cut, the pointers name whole checkpoints. Raises InputOutputError.
    """
    name = checkpoint_name(step)
    contents = {
        MODEL: safetensors_numpy.save(weights),
        TRAINING: safetensors_numpy.save(training),
        PROGRESS: json.dumps(progress).encode(),
    }
    manifest = {file: _entry(data) for file, data in contents.items()} | {
        "vocab.json": _entry(run.vocab.to_json().encode())
    }
    contents[MANIFEST] = json.dumps(manifest, indent=1).encode()
    final = run.checkpoints / name
    with disk_errors(f"checkpoint {name} in {run.folder}"):
        if (metrics := run.folder / "metrics.jsonl").exists():
            _flush(metrics)  # a power cut must not take what was logged before this step
        if not _holds(final, contents):  # a save that failed at the pointers left it whole
            _write_folder(final, contents)
        _point(run, "latest", name)
        if is_best or _best_name(run) == name:
            _point(run, "best", name)
        _remove_old(run, name)
    return final


def read_checkpoint(run: Run, which: Pointer, *, model_only: bool = False) -> Checkpoint:
    """Read and verify the checkpoint that a pointer names; `best` falls back to `latest` before the first validation.

    Raises RunError for anything missing, damaged or not as its manifest says.
    """
    if which == "best" and not (run.folder / "best").exists():
        which = "latest"
    pointed = _pointed(run, which)
    if pointed.name is None:
        raise RunError(
            f"{run.folder} has no checkpoint yet: if nothing is training it, it was ended before it had saved any, "
            "so train a new run"
        )
    if not _NAME.fullmatch(pointed.name):
        raise RunError(
            f"{run.folder / which} names {pointed.name!r}, which is no checkpoint: "
            f"write the name of one in {run.checkpoints} into it"
        )
    manifest = run.checkpoints / pointed.name / MANIFEST
    if pointed.seal is not None and pointed.seal != _pointer_seal(which, _read(manifest, MAX_SCALARS_BYTES)):
        raise RunError(f"{run.folder / which} or {manifest} is damaged: they do not belong together; {_advice(run)}")
    return read_checkpoint_named(run, pointed.name, model_only=model_only)


def read_newest_whole(run: Run) -> tuple[Checkpoint, list[RunError]]:
    """The checkpoint that `latest` names or, if that is damaged, the newest that is not; and what was wrong with it.

    Raises the first RunError if there is no whole one.
    """
    damage: list[RunError] = []
    try:
        return read_checkpoint(run, "latest"), damage
    except RunError as error:
        damage.append(error)
    for name in reversed(checkpoint_names(run)):
        try:
            return read_checkpoint_named(run, name), damage
        except RunError:
            continue
    raise damage[0]


def read_checkpoint_named(run: Run, name: str, *, model_only: bool = False) -> Checkpoint:
    """Read one checkpoint of the run by its name, verify it against its manifest and the run's settings.

    Whether the training's arrays and scalars fit the training is for the trainer to say.
    """
    folder = run.checkpoints / name
    data = _read(folder / MANIFEST, MAX_SCALARS_BYTES)
    try:
        manifest = msgspec.json.decode(data, type=dict[str, _Entry])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{folder / MANIFEST} is damaged ({error}): {_advice(run)}") from None
    _verified(run.folder / "vocab.json", manifest, run, MAX_VOCAB_BYTES)
    progress = _scalars(_verified(folder / PROGRESS, manifest, run, MAX_SCALARS_BYTES), name, folder / PROGRESS)
    numbers = sum(math.prod(shape) for shape in weight_shapes(run.settings.model, run.vocab.size).values())
    model_bytes = 4 * numbers + MAX_HEADER_BYTES
    weights = _arrays(folder / MODEL, manifest, run, model_bytes)
    check_weights(weights, run.settings.model, run.vocab.size, where=str(folder / MODEL))
    if model_only:
        return Checkpoint(name, weights, {}, progress)
    model, lanes = run.settings.model, run.settings.training.batch_size
    state_bytes = 8 * model.num_layers * model.hidden_size * lanes  # h and c
    training = _arrays(folder / TRAINING, manifest, run, 2 * model_bytes + state_bytes)
    return Checkpoint(name, weights, training, progress)


def checkpoint_name(step: int) -> str:
    """The folder's name of the checkpoint after this many steps."""
    return f"step-{step:08d}"


def checkpoint_names(run: Run) -> list[str]:
    """The checkpoints of the run, oldest first."""
    names = [path.name for path in run.checkpoints.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(names, key=lambda name: int(name.removeprefix("step-")))


def append_metrics(run: Run, facts: Mapping[str, Any]) -> None:
    """Add one object to metrics.jsonl, whole or not at all."""
    path = run.folder / "metrics.jsonl"
    with disk_errors(str(path)), path.open("ab", buffering=0) as file:
        end, line = file.tell(), json.dumps(facts).encode() + b"\n"
        if file.write(line) < len(line):  # the disk filled up
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def point_best(run: Run, step: int) -> None:
    """Have `best` name the checkpoint of the best step, if it stands and is not named already.

    A kill may have come between `latest` and `best`, or a resume have gone back behind the best.
    """
    name = checkpoint_name(step)
    with disk_errors(str(run.folder / "best")):
        if _best_name(run) != name and (run.checkpoints / name / MANIFEST).is_file():
            _point(run, "best", name)


def cut_metrics(run: Run, step: int) -> None:
    """Leave in metrics.jsonl what was logged up to a step: a run that resumes there will log the rest again."""
    path = run.folder / "metrics.jsonl"
    if path.exists():
        lines = _read(path).splitlines(keepends=True)
        with disk_errors(str(path)):
            write_whole(path, b"".join(line.rstrip(b"\n") + b"\n" for line in lines if _step_of(line) <= step))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that at every moment its old or its new content stands there whole."""
    unfinished = path.with_name(UNFINISHED + path.name)
    _write_flushed(unfinished, data)
    unfinished.replace(path)
    _flush(path.parent)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn the system's refusal to write into InputOutputError, one sentence."""
    try:
        yield
    except OSError as error:
        raise InputOutputError(
            f"could not write {what}: {error.strerror or error} ({error.filename or 'no file name'})"
        ) from error


def _sealed_settings(settings: Settings) -> bytes:
    lines = dump_settings(settings).encode()
    return _seal(lines) + lines


def _read_settings(path: Path) -> Settings:
    """A run's settings, after the seal in the first line agrees with the others; one may delete it to edit them."""
    data = _read(path, MAX_SETTINGS_BYTES)
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


class _Pointed(NamedTuple):
    """What a pointer says; both None if there is no such pointer, the second alone if a person wrote it."""

    name: str | None
    seal: str | None


def _point(run: Run, which: Pointer, name: str) -> None:
    manifest = (run.checkpoints / name / MANIFEST).read_bytes()
    write_whole(run.folder / which, f"{name} {_pointer_seal(which, manifest)}\n".encode())


def _pointer_seal(which: Pointer, manifest: bytes) -> str:
    """What ties a pointer to one checkpoint, so that a damaged or misplaced one does not silently name another."""
    return hashlib.sha256(f"{which}\n".encode() + manifest).hexdigest()


def _pointed(run: Run, which: Pointer) -> _Pointed:
    pointer = run.folder / which
    if not pointer.exists():
        return _Pointed(None, None)
    name, space, seal = _read(pointer, MAX_POINTER_BYTES).decode("utf-8", "replace").strip().partition(" ")
    return _Pointed(name, seal if space else None)


def _best_name(run: Run) -> str | None:
    """The name in `best`, None before the first validation, and "" if it cannot be read."""
    try:
        return _pointed(run, "best").name
    except RunError:
        return ""


def _holds(folder: Path, contents: Mapping[str, bytes]) -> bool:
    return folder.exists() and all(
        (folder / name).is_file() and (folder / name).read_bytes() == data for name, data in contents.items()
    )


def _write_folder(final: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder of files so that it stands under its name whole or not at all."""
    unfinished = final.with_name(UNFINISHED + final.name)
    _remove(unfinished)
    unfinished.mkdir()
    for file, data in contents.items():
        _write_flushed(unfinished / file, data)
    _flush(unfinished)
    replaced = final.with_name(REPLACED + final.name)
    _put_back(replaced)
    if final.exists():  # what was saved here before it was ended or damaged, and is trained anew
        final.rename(replaced)
    try:
        unfinished.rename(final)
    except OSError:
        _put_back(replaced)
        raise
    _flush(final.parent)
    _remove(replaced)


def _put_back(replaced: Path) -> None:
    """Undo a replacing that ended between its two renames, or finish one that ended after them."""
    final = replaced.with_name(replaced.name.removeprefix(REPLACED))
    if replaced.exists() and not final.exists():
        replaced.rename(final)
    _remove(replaced)


def _remove_old(run: Run, newest: str) -> None:
    """Remove all but the best and the newest; also those beyond it, which a resume from before them left behind."""
    names = checkpoint_names(run)
    best = _best_name(run)
    if best is not None and best not in names:
        return  # the pointer is damaged, and any of them may be the best
    kept = {*names[: names.index(newest) + 1][-KEPT_LATEST:], best}
    for name in names:
        if name not in kept:
            # renamed first, so that a half-removed checkpoint never bears a checkpoint's name
            doomed = run.checkpoints / f"{UNFINISHED}removed-{name}"
            _remove(doomed)
            (run.checkpoints / name).rename(doomed)
            _remove(doomed)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_flushed(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush(path: Path) -> None:
    """Have a folder, or a file that was written earlier, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _entry(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _read(path: Path, max_bytes: int | None = None) -> bytes:
    """The content of a file that may not be longer than is plausible, so that no file fills the memory."""
    try:
        if not path.is_file():  # opening a FIFO would wait for its writer
            raise OSError(None, "it is not there or no regular file")
        size = path.stat().st_size
        if max_bytes is not None and size > max_bytes:
            raise RunError(f"{path} is longer than the {max_bytes:,} bytes that such a file can have in this run")
        with path.open("rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:
        raise RunError(f"could not read {path}: {getattr(error, 'strerror', None) or error}") from None


def _scalars(data: bytes, name: str, where: Path) -> dict[str, Any]:
    """The scalars of the checkpoint that bears this name."""
    try:
        progress = msgspec.json.decode(data, type=dict[str, bool | int | float | str | None])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{where} is not the progress of a training: {error}") from None
    step, text_sha256 = progress.get("step"), progress.get("text_sha256")
    if type(step) is not int or checkpoint_name(step) != name or not isinstance(text_sha256, str):
        raise RunError(f"{where} is not the progress of a training up to {name}: its step or text_sha256 is wrong")
    return progress


def _verified(path: Path, manifest: Mapping[str, _Entry], run: Run, max_bytes: int) -> bytes:
    """The content of a file, after its size and sha256 agree with the manifest."""
    entry = manifest.get(path.name)
    data = _read(path, max_bytes)
    if entry is None or len(data) != entry.bytes or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise RunError(f"{path} is damaged: it is not what the checkpoint's manifest says; {_advice(run)}")
    return data


def _arrays(path: Path, manifest: Mapping[str, _Entry], run: Run, max_bytes: int) -> Arrays:
    try:
        return safetensors_numpy.load(_verified(path, manifest, run, max_bytes))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not a safetensors file ({error}): {_advice(run)}") from None


def _advice(run: Run) -> str:
    return f"restore the folder from a copy, or point {run.folder / 'latest'} and best at another of its checkpoints"


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float(np.inf)  # a line that a kill cut short
