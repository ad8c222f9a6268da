"""metrics.jsonl: one row a logged step; written here, cut back here and read here."""

import errno
import os
import re
from pathlib import Path

import msgspec

from charlstm.errors import RunError
from charlstm.files import disk_errors, read_bounded, write_file
from charlstm.settings import PLAIN, Naming

FILE = "metrics.jsonl"
MAX_METRICS_BYTES = 200_000_000  # a million rows
MAX_RESUMED_BYTES = 1_000_000_000  # of a run that goes on: five million


class MetricsRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is logged of a step; the three last figures are those of a validation after it.

    In the file the figures have the names of their run (`Naming`), as in cloze_bits_per_byte.
    """

    step: int
    chars: int  # trained on so far, over all epochs
    seconds: float  # from the first step on, without those for which the process was stopped
    loss: float  # of this step's batch, nats per character
    bits_per_char: float
    learning_rate: float
    grad_norm: float  # before clipping
    chars_per_second: int
    val_loss: float | None = None
    val_bits_per_char: float | None = None
    val_accuracy: float | None = None


def append_metrics(folder: Path, row: MetricsRow, naming: Naming = PLAIN) -> None:
    """Add a row, or nothing if it cannot be written. Raises InputOutputError."""
    path = folder / FILE
    named = {naming.name(field): value for field, value in msgspec.to_builtins(row).items()}
    with disk_errors(str(path)), open(path, "ab", buffering=0, opener=_open_for_rows) as file:
        end, line = file.tell(), msgspec.json.encode(named) + b"\n"
        if file.write(line) < len(line):  # the disk filled up
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def cut_metrics(folder: Path, step: int) -> list[str]:
    """Keep the rows up to a step: a run that resumes there will log the others again. Raises InputOutputError.

    Returns a sentence for whoever should know that damaged rows were left out; a last one that a kill cut short is
    logged again.
    """
    path = folder / FILE
    if not path.exists():
        return []
    lines = _lines(path, MAX_RESUMED_BYTES)
    damaged = [number for number, _, row in lines if row is None]
    with disk_errors(str(path)):
        write_file(path, b"".join(line + b"\n" for _, line, row in lines if row is not None and row.step <= step))
    if not damaged:
        return []
    where = f"line {damaged[0]}" if len(damaged) == 1 else f"{len(damaged)} lines, the first of them line {damaged[0]}"
    return [f"{path}: {where}, damaged, left out of the metrics"]


def read_metrics(folder: Path) -> list[MetricsRow]:
    """The rows of a run folder, without a last one that is still being written; other damage raises RunError."""
    path = folder / FILE
    rows = []
    for number, _, row in _lines(path, MAX_METRICS_BYTES):
        if row is None:
            raise RunError(f"{path}:{number} is no row of metrics: remove that line")
        rows.append(row)
    return rows


def read_bits_name(folder: Path) -> str:
    """What the rows of a run folder call their bits: "bits_per_char", "cloze_bits_per_byte". Raises RunError."""
    found = re.search(rb'"((cloze_)?bits_per_(char|byte))"', read_bounded(folder / FILE, MAX_METRICS_BYTES))
    return found[1].decode() if found else "bits_per_char"


def _open_for_rows(path: str, flags: int) -> int:
    """Follow no link, and wait for no reader of a FIFO."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _lines(path: Path, most_bytes: int) -> list[tuple[int, bytes, MetricsRow | None]]:
    """The number, text and row of each line; None for what is no row, but for a last one that was cut short."""
    *lines, last = read_bounded(path, most_bytes).split(b"\n")
    lines += [last] if _decoded(last) is not None else []
    return [(number, line, _decoded(line)) for number, line in enumerate(lines, start=1) if line.strip()]


def _decoded(line: bytes) -> MetricsRow | None:
    """A row, whatever the figures of its run are called; None for what is none."""
    try:
        return msgspec.json.decode(line.replace(b"cloze_", b"").replace(b"byte", b"char"), type=MetricsRow)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
