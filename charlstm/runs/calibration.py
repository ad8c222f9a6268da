"""The scores of lines on which thresholds stand, kept with the run: calibration.json in its folder."""

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from charlstm.errors import RunError
from charlstm.files import disk_errors, read_bounded, write_file
from charlstm.runs.folder import Run
from charlstm.runs.writing import refuse_replaced

CALIBRATION = "calibration.json"
MAX_CALIBRATION_BYTES = 200_000_000  # some ten million lines


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lines cost by a checkpoint: nats and counted characters of each."""

    checkpoint: str
    source: str  # "the validation text", or the file that was named
    nats: list[float]
    chars: list[int]


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: a calibration and the checksum of its bytes."""

    calibration: msgspec.Raw
    sha256: str


def save_calibration(run: Run, calibration: Calibration) -> Path:
    """Keep a calibration with the run, in the place of an earlier one. Raises InputOutputError, RunError."""
    refuse_replaced(run)
    path = run.folder / CALIBRATION
    data = msgspec.json.encode(calibration)
    stored = msgspec.json.encode(_Stored(msgspec.Raw(data), sha256(data).hexdigest()))
    if len(stored) > MAX_CALIBRATION_BYTES:
        raise RunError(f"{len(calibration.nats):,} lines are too many to store as a calibration: name a tenth of them")
    with disk_errors(str(path)):
        write_file(path, stored)
    return path


def read_calibration(run: Run, checkpoint: str) -> Calibration | None:
    """The calibration kept with the run, None if there is none of this checkpoint. Raises RunError if it is damaged."""
    path = run.folder / CALIBRATION
    if not path.exists():
        return None
    found = None
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        stored = msgspec.json.decode(read_bounded(path, MAX_CALIBRATION_BYTES), type=_Stored)
        if sha256(stored.calibration).hexdigest() == stored.sha256:
            found = msgspec.json.decode(stored.calibration, type=Calibration)
    if found is None or len(found.nats) != len(found.chars) or not found.nats:
        raise RunError(f"{path} is damaged: remove it, and store it again with --store")
    return found if found.checkpoint == checkpoint else None
