"""The run folder: its settings, its vocabulary, and the text it was trained on.

runs/<name>/
    config.yaml      resolved settings, every field; the first line holds the sha256 of the others
    vocab.json       symbols, line ends, what becomes of an unknown character
    text.json        the fingerprint of the text
    metrics.jsonl    one row a logged step (`metrics`)
    calibration.json the scores that thresholds stand on, if they were stored (`calibration`)
    checkpoints/     weights and training states (`checkpoints`)
    best, latest     which of these is the best, and the newest
runs/latest          the newest run
"""

import hashlib
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from charlstm.errors import RunError
from charlstm.files import (
    disk_errors,
    read_bounded,
    write_file,
)
from charlstm.settings import (
    MAX_SETTINGS_BYTES,
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
            write_file(folder / "config.yaml", with_checksum(settings))
            write_file(folder / VOCAB, vocab.to_json().encode())
            write_file(folder / TEXT, msgspec.json.encode(text))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Run(folder, settings, vocab, text, inodes_of(folder))


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


def refuse_taken(folder: Path) -> None:
    """Raise RunError if a new run may not be put here, because something is here already."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file: name a new folder")
    if folder.exists() and any(folder.iterdir()):
        if is_run(folder):
            raise RunError(f"{folder} is a run: name a new folder, or continue the run with --resume {folder}")
        raise RunError(f"{folder} is not empty: name a new folder")


def read_run(folder: Path) -> Run:
    """The run in a folder. Raises RunError if there is none, or a damaged one, SettingsError for unknown settings."""
    if not is_run(folder):
        raise RunError(f"{folder} is not a run folder (it has no config.yaml): name one that `charlstm train` made")
    try:
        inodes = inodes_of(folder)
    except OSError as error:
        raise RunError(f"could not read {folder}: {error.strerror}") from None
    settings = _read_settings(folder / "config.yaml")
    vocab = Vocab.from_json(read_bounded(folder / VOCAB, MAX_VOCAB_BYTES), where=str(folder / VOCAB))
    text = _read_text_identity(folder / TEXT) if (folder / TEXT).exists() else None
    return Run(folder, settings, vocab, text, inodes)


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, readable or not."""
    try:
        return (folder / "config.yaml").is_file()
    except OSError:  # whoever reads it says why it cannot be read
        return True


def inodes_of(folder: Path) -> tuple[tuple[int, int], ...]:
    """The device and the number of a run folder and, if it has one, of that of its checkpoints. Raises OSError."""
    found = [folder.stat()]
    with suppress(OSError):
        found.append((folder / "checkpoints").lstat())
    return tuple((one.st_dev, one.st_ino) for one in found)


def with_checksum(settings: Settings) -> bytes:
    """What config.yaml holds."""
    lines = dump_settings(settings).encode()
    return _checksum_line(lines) + lines


def _checksum_line(lines: bytes) -> bytes:
    digest = hashlib.sha256(lines).hexdigest()
    return f"# sha256 {digest} of the lines below (delete this line if you change them)\n".encode()


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


def _read_text_identity(path: Path) -> TextIdentity:
    try:
        return msgspec.json.decode(read_bounded(path, MAX_POINTER_BYTES), type=TextIdentity)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged ({error}): restore it from a copy") from None
