"""Corpora that have a name: the library of the running Python, and tinyshakespeare."""

import os
import sysconfig
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from charlstm.errors import InputOutputError, RunError, TextError
from charlstm.files import disk_errors, read_bounded, write_file
from charlstm.text.download import download
from charlstm.text.text_files import TextFile, read_chunks, regular_file

NAMED_CORPORA = ("python-stdlib", "tinyshakespeare")
TINYSHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
TINYSHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TINYSHAKESPEARE_FILE = "tinyshakespeare.txt"
MAX_TINYSHAKESPEARE_BYTES = 2_000_000  # it has 1,115,394
DOWNLOAD_SECONDS = 120.0

_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "_bundled"}


def python_stdlib() -> list[TextFile]:
    """The running Python's own library, in path order, without tests, installed packages and bundled wheels.

    A file that is not UTF-8 is left out (in CPython 3.11 none is, outside the tests).
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths: list[Path] = []
    for parent, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name not in _NOT_LIBRARY]
        paths += [Path(parent, name) for name in names if name.endswith(".py")]
    files = [regular_file(path) for path in sorted(paths, key=Path.as_posix) if _is_utf8(path)]
    if not files:
        raise TextError(f"python-stdlib: this Python has no .py files in {str(root)!r}; name a text of your own")
    return files


def _is_utf8(path: Path) -> bool:
    try:
        path.read_bytes().decode()
    except (UnicodeDecodeError, OSError):
        return False
    return True


def tinyshakespeare(cache_folder: Path, data_folder: Path | None) -> TextFile:
    """From `data_folder`, else the cache, else the network; its sha256 is checked wherever it comes from."""
    if data_folder is not None and (path := data_folder / TINYSHAKESPEARE_FILE).is_file():
        file = regular_file(path)
        digest = sha256()
        for chunk in read_chunks(file):
            digest.update(chunk)
        if digest.hexdigest() != TINYSHAKESPEARE_SHA256:
            raise TextError(
                f"{file.name} is not the tinyshakespeare text: its sha256 is {digest.hexdigest()}, "
                f"not {TINYSHAKESPEARE_SHA256}; replace it, or unset CHARLSTM_DATA to have it downloaded"
            )
        return file
    return regular_file(_downloaded(cache_folder))


def _downloaded(cache_folder: Path) -> Path:
    path = cache_folder / TINYSHAKESPEARE_FILE
    with suppress(RunError):
        if _is_tinyshakespeare(read_bounded(path, MAX_TINYSHAKESPEARE_BYTES)):
            return path
    cure = f"put the text into a folder as {TINYSHAKESPEARE_FILE} and set CHARLSTM_DATA to that folder"
    try:
        content = download(TINYSHAKESPEARE_URL, max_bytes=MAX_TINYSHAKESPEARE_BYTES, max_seconds=DOWNLOAD_SECONDS)
    except OSError as error:
        what = f"tinyshakespeare from {TINYSHAKESPEARE_URL}"
        raise InputOutputError(f"cannot download {what} ({error}); {cure}") from None
    if not _is_tinyshakespeare(content):
        raise InputOutputError(
            f"what {TINYSHAKESPEARE_URL} sent is not tinyshakespeare (its sha256 is wrong); try again, or {cure}"
        )
    with disk_errors(f"to the cache {str(cache_folder)!r}"):
        write_file(path, content)
    return path


def _is_tinyshakespeare(content: bytes) -> bool:
    return sha256(content).hexdigest() == TINYSHAKESPEARE_SHA256
