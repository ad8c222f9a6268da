"""metrics.jsonl: one row a logged step; written here, cut back here and read here."""

import errno
import os
from pathlib import Path

import msgspec

from charlstm.errors import RunError
from charlstm.files import disk_errors, read_bounded, write_file

FILE = "metrics.jsonl"
MAX_METRICS_BYTES = 200_000_000  # a million rows


class MetricsRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is logged of a step; the three last figures are those of a validation after it."""

    step: int
    chars: int  # trained on so far, over all epochs
    seconds: float  # spent training and validating
    loss: float  # of this step's batch, nats per character
    bits_per_char: float
    learning_rate: float
    grad_norm: float  # before clipping
    chars_per_second: int
    val_loss: float | None = None
    val_bits_per_char: float | None = None
    val_accuracy: float | None = None


def append_metrics(folder: Path, row: MetricsRow) -> None:
    """Add a row, or nothing if it cannot be written. Raises InputOutputError."""
    path = folder / FILE
    with disk_errors(str(path)), open(path, "ab", buffering=0, opener=_open_for_rows) as file:
        end, line = file.tell(), msgspec.json.encode(row) + b"\n"
        if file.write(line) < len(line):  # the disk filled up
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def cut_metrics(folder: Path, step: int) -> None:
    """Keep the rows up to a step: a run that resumes there will log the others again. Raises InputOutputError."""
    path = folder / FILE
    if path.exists():
        rows = [line for line in read_bounded(path, MAX_METRICS_BYTES).splitlines() if _is_up_to(step, line)]
        with disk_errors(str(path)):
            write_file(path, b"".join(line + b"\n" for line in rows))


def read_metrics(folder: Path) -> list[MetricsRow]:
    """The rows of a run folder, without a last one that is still being written; other damage raises RunError."""
    path = folder / FILE
    lines = read_bounded(path, MAX_METRICS_BYTES).split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                rows.append(msgspec.json.decode(line, type=MetricsRow))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if number == len(lines):
                break
            raise RunError(f"{path}:{number} is no row of metrics ({error}): remove that line") from None
    return rows


def _open_for_rows(path: str, flags: int) -> int:
    """Follow no link, and wait for no reader of a FIFO."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


class _Numbered(msgspec.Struct):
    step: int


def _is_up_to(step: int, line: bytes) -> bool:
    """Whether a line is a row of a step that is not later; one that a kill cut short is not."""
    try:
        return msgspec.json.decode(line, type=_Numbered).step <= step
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
