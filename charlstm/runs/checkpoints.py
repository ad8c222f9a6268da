"""Checkpoints: written atomically, named by pointers, verified when read.

    checkpoints/step-00001200/
        model.safetensors       weights
        training.safetensors    what the optimisers keep, and the recurrent state
        progress.json           scalars
        manifest.json           sha256 and size of each of these, of vocab.json and of text.json
    best, latest                the name of a checkpoint, and a checksum that ties the two together

Nothing is pickled, so nothing that is read can run code.
"""

import hashlib
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from charlstm.errors import RunError
from charlstm.files import UNFINISHED, disk_errors, flush, read_bounded, remove, write_file, write_folder
from charlstm.runs import metrics
from charlstm.runs.folder import MAX_POINTER_BYTES, MAX_VOCAB_BYTES, TEXT, VOCAB, Run
from charlstm.runs.progress import Progress, decode_progress
from charlstm.runs.writing import is_being_written, refuse_replaced
from charlstm.weights import check_weights, count_weights

Arrays: TypeAlias = dict[str, NDArray[Any]]
Pointer: TypeAlias = Literal["best", "latest"]

MODEL, TRAINING, PROGRESS = "model.safetensors", "training.safetensors", "progress.json"
MANIFEST = "manifest.json"
KEPT_LATEST = 2  # checkpoints besides the best
MAX_SCALARS_BYTES = 100_000  # of progress.json and of manifest.json, which hold a few lines
MAX_HEADER_BYTES = 1_000_000  # of a safetensors file
MOST_READS = 50  # of a checkpoint whose pointer moves
BETWEEN_READS_SECONDS = 0.005
_NAME = re.compile(r"step-[0-9]{8,15}")


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a training run as values; `training` is empty when only the model was asked for."""

    weights: Arrays
    training: Arrays  # what optimisers keep (exp_avg.<weight>, …) and the recurrent state (state.h, …)
    progress: Progress

    @property
    def name(self) -> str:
        """The name of its folder."""
        return checkpoint_name(self.progress.step)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    bytes: int


def save_checkpoint(run: Run, checkpoint: Checkpoint, *, is_best: bool) -> None:
    """Write a checkpoint, point `latest` (and `best`) at it, and only then remove those no longer needed.

    At every moment, also that of a power cut, the pointers name complete checkpoints. Raises InputOutputError, and
    RunError if another folder has taken the run's place.
    """
    contents = {
        MODEL: safetensors_numpy.save(checkpoint.weights),
        TRAINING: safetensors_numpy.save(checkpoint.training),
        PROGRESS: msgspec.json.encode(checkpoint.progress),
    }
    of_run = {VOCAB: run.vocab.to_json().encode(), TEXT: msgspec.json.encode(run.text)}
    manifest = {file: _entry(data) for file, data in (contents | of_run).items()}
    contents[MANIFEST] = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    final = run.checkpoints / checkpoint.name
    refuse_replaced(run)
    with disk_errors(f"checkpoint {checkpoint.name} in {run.folder}"):
        if (log := run.folder / metrics.FILE).exists():
            flush(log)  # a power cut must not take what was logged before this step
        if not _holds(final, contents):  # a save that failed at the pointers left it complete
            write_folder(final, contents)
        _point(run, "latest", checkpoint.name, contents[MANIFEST])
        if is_best or _best_name(run) == checkpoint.name:
            _point(run, "best", checkpoint.name, contents[MANIFEST])
        _remove_old(run, checkpoint.name)


def read_checkpoint(run: Run, which: Pointer, *, model_only: bool = False) -> Checkpoint:
    """Read and verify the checkpoint that a pointer names; `best` falls back to `latest` before the first validation.

    A checkpoint that a training run removes meanwhile is not damaged: its pointer, which has moved on, is read again.
    Raises RunError for anything missing, damaged or not as its manifest says.
    """
    for _ in range(MOST_READS - 1):
        before = _pointer_files(run)
        try:
            return _read_pointed(run, which, model_only=model_only)
        except RunError:
            if _pointer_files(run) == before and not is_being_written(run):
                raise
        time.sleep(BETWEEN_READS_SECONDS)
    return _read_pointed(run, which, model_only=model_only)


def _pointer_files(run: Run) -> list[tuple[int, int] | None]:
    """What changes with every move of a pointer: its file."""
    found: list[tuple[int, int] | None] = []
    for which in ("best", "latest"):
        try:
            of_file = (run.folder / which).stat()
            found.append((of_file.st_ino, of_file.st_mtime_ns))
        except OSError:
            found.append(None)
    return found


def _read_pointed(run: Run, which: Pointer, *, model_only: bool = False) -> Checkpoint:
    best_is_missing = which == "best" and not (run.folder / "best").exists()
    if best_is_missing:
        which = "latest"
    name, checksum = _pointed(run, which)
    if name is None:
        raise RunError(
            f"{run.folder} has no checkpoint yet: if nothing is training it, it was ended before it had saved any, "
            "so train a new run"
        )
    if not _NAME.fullmatch(name):
        raise RunError(
            f"{run.folder / which} names {name!r}, which is no checkpoint: "
            f"write the name of one in {run.checkpoints} into it"
        )
    manifest = run.checkpoints / name / MANIFEST
    if checksum not in (None, _pointer_checksum(which, read_bounded(manifest, MAX_SCALARS_BYTES))):
        raise RunError(f"{run.folder / which} or {manifest} is damaged: they do not belong together; {_advice(run)}")
    checkpoint = read_checkpoint_named(run, name, model_only=model_only)
    best_step = checkpoint.progress.best_step
    if best_is_missing and best_step not in (None, checkpoint.progress.step):
        raise RunError(
            f"{run.folder / 'best'} is missing: write the name of the checkpoint of step {best_step} into it"
        )
    return checkpoint


def read_newest_undamaged(run: Run) -> tuple[Checkpoint, list[RunError]]:
    """The checkpoint that `latest` names or, if that is damaged, the newest that is not; and what was wrong with it.

    Raises the first RunError if every one is damaged.
    """
    damage: list[RunError] = []
    try:
        return _read_pointed(run, "latest"), damage
    except RunError as error:
        damage.append(error)
    for name in reversed(checkpoint_names(run)):
        with suppress(RunError):
            return read_checkpoint_named(run, name), damage
    raise damage[0]


def read_checkpoint_named(run: Run, name: str, *, model_only: bool = False) -> Checkpoint:
    """Read one checkpoint of the run by its name, verify it against its manifest and the run's settings.

    Whether the training arrays fit the run is checked by the trainer.
    """
    folder = run.checkpoints / name
    data = read_bounded(folder / MANIFEST, MAX_SCALARS_BYTES)
    try:
        manifest = msgspec.json.decode(data, type=dict[str, _Entry])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{folder / MANIFEST} is damaged ({error}): {_advice(run)}") from None
    _verified(run.folder / VOCAB, manifest, run, MAX_VOCAB_BYTES)
    if TEXT in manifest:  # which a run of an earlier version lacks
        _verified(run.folder / TEXT, manifest, run, MAX_POINTER_BYTES)
    scalars = _verified(folder / PROGRESS, manifest, run, MAX_SCALARS_BYTES)
    progress = decode_progress(scalars, where=str(folder / PROGRESS))
    if checkpoint_name(progress.step) != name:
        raise RunError(f"{folder / PROGRESS} is damaged: it is that of step {progress.step}, not of {name}")
    model, lanes = run.settings.model, run.settings.training.batch_size
    if run.settings.data.documents != "stream":
        lanes *= run.settings.training.sequence_length  # as many documents of one character
    model_bytes = 4 * count_weights(model, run.vocab.size) + MAX_HEADER_BYTES
    weights = _arrays(folder / MODEL, manifest, run, model_bytes)
    check_weights(weights, model, run.vocab.size, where=str(folder / MODEL))
    if model_only:
        return Checkpoint(weights, {}, progress)
    state_bytes = 8 * model.num_layers * model.hidden_size * lanes  # h and c
    training = _arrays(folder / TRAINING, manifest, run, 2 * model_bytes + state_bytes)
    return Checkpoint(weights, training, progress)


def checkpoint_name(step: int) -> str:
    """The folder's name of the checkpoint after this many steps."""
    return f"step-{step:08d}"


def checkpoint_names(run: Run) -> list[str]:
    """The checkpoints of the run, oldest first. Raises RunError if they cannot be listed."""
    try:
        found = os.listdir(run.checkpoints)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"could not read {run.checkpoints}: {error.strerror}") from None
    return sorted(filter(_NAME.fullmatch, found), key=lambda name: int(name.removeprefix("step-")))


def point_best(run: Run, step: int) -> None:
    """Have `best` name the checkpoint of the best step, if it stands and is not named already.

    A kill may have come between `latest` and `best`, or a resume have gone back behind the best.
    """
    name = checkpoint_name(step)
    refuse_replaced(run)
    with disk_errors(str(run.folder / "best")):
        if _best_name(run) != name and (run.checkpoints / name / MANIFEST).is_file():
            _point(run, "best", name, read_bounded(run.checkpoints / name / MANIFEST, MAX_SCALARS_BYTES))


def _point(run: Run, which: Pointer, name: str, manifest: bytes) -> None:
    write_file(run.folder / which, f"{name} {_pointer_checksum(which, manifest)}\n".encode())


def _pointer_checksum(which: Pointer, manifest: bytes) -> str:
    """What ties a pointer to one checkpoint, so that a damaged or misplaced one does not silently name another."""
    return hashlib.sha256(f"{which}\n".encode() + manifest).hexdigest()


def _pointed(run: Run, which: Pointer) -> tuple[str | None, str | None]:
    """The name in a pointer, None if there is none, and its checksum, None if a person wrote it."""
    pointer = run.folder / which
    if not pointer.exists():
        return None, None
    name, space, checksum = read_bounded(pointer, MAX_POINTER_BYTES).decode("utf-8", "replace").strip().partition(" ")
    return name, checksum if space else None


def _best_name(run: Run) -> str | None:
    """The name in `best`, None before the first validation, and "" if it cannot be read."""
    try:
        return _pointed(run, "best")[0]
    except RunError:
        return ""


def _holds(folder: Path, contents: Mapping[str, bytes]) -> bool:
    return folder.exists() and all(
        (path := folder / name).is_file() and path.stat().st_size == len(data) and path.read_bytes() == data
        for name, data in contents.items()
    )


def _remove_old(run: Run, newest: str) -> None:
    """Remove all but the best and the newest; also those beyond it, which a resume from before them left behind."""
    names = checkpoint_names(run)
    best = _best_name(run)
    if best is not None and best not in names:
        return  # the pointer is damaged, and any of them may be the best
    kept = {*names[: names.index(newest) + 1][-KEPT_LATEST:], best}
    for name in names:
        if name not in kept:
            refuse_replaced(run)
            # renamed first, so that a half-removed checkpoint never bears a checkpoint's name
            doomed = run.checkpoints / f"{UNFINISHED}removed-{name}"
            remove(doomed)
            (run.checkpoints / name).rename(doomed)
            remove(doomed)


def _entry(data: bytes) -> _Entry:
    return _Entry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _verified(path: Path, manifest: Mapping[str, _Entry], run: Run, max_bytes: int) -> bytes:
    """The content of a file, after its size and sha256 agree with the manifest."""
    entry = manifest.get(path.name)
    data = read_bounded(path, max_bytes)
    if entry is None or len(data) != entry.bytes or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise RunError(f"{path} is damaged: it differs from the checkpoint's manifest; {_advice(run)}")
    return data


def _arrays(path: Path, manifest: Mapping[str, _Entry], run: Run, max_bytes: int) -> Arrays:
    try:
        return safetensors_numpy.load(_verified(path, manifest, run, max_bytes))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not a safetensors file ({error}): {_advice(run)}") from None


def _advice(run: Run) -> str:
    return f"restore the folder from a copy, or point {run.folder / 'latest'} and best at another of its checkpoints"
