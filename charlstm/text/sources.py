"""Where text comes from: files, folders, patterns, pipes, compressed files and named corpora, as streams of bytes."""

import difflib
import fnmatch
import glob
import gzip
import io
import lzma
import os
import stat
import sysconfig
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import zstandard

from charlstm.errors import InputOutputError, RunError, TextError
from charlstm.files import disk_errors, read_bounded, write_file
from charlstm.text.download import download

NAMED_CORPORA = ("python-stdlib", "tinyshakespeare")
STDIN = "-"
CHUNK_BYTES = 1 << 20  # large enough that a chunk's own cost vanishes, small beside the process itself
TINYSHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
TINYSHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TINYSHAKESPEARE_FILE = "tinyshakespeare.txt"
MAX_TINYSHAKESPEARE_BYTES = 2_000_000  # it has 1,115,394
DOWNLOAD_SECONDS = 120.0

_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "_bundled"}
_BROKEN_ARCHIVE = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError)


@dataclass(frozen=True)
class TextFile:
    """One file's worth of text that can be read again and again; `name` is what an error calls it."""

    name: str
    suffix: str  # .gz, .xz and .zst are decompressed
    mode: int  # its permissions, which hold for what is made of it
    open: Callable[[], BinaryIO]


@contextmanager
def open_sources(
    sources: Sequence[str], *, cache_folder: Path, data_folder: Path | None, stdin: BinaryIO | None
) -> Iterator[list[TextFile]]:
    """The files behind the sources, in order, readable until the context ends.

    A file is taken as it is, decompressed if it ends in .gz, .xz or .zst; a folder gives its regular files that are not
    hidden, at any depth, by their path; a pattern the regular files it matches, by their path (`**` for any depth; no
    wildcard stands for a link to a folder), each once, however many names it has there. `-` is standard input; a
    leading `~` is the home folder. What can be read only once (stdin, a FIFO) is copied to an anonymous temporary file
    in `cache_folder` first.
    Raises TextError for a source that is missing, unreadable or matches nothing.
    """
    if not sources:
        raise TextError(f"no text was named; give data.sources a file, a folder or one of {', '.join(NAMED_CORPORA)}")
    if list(sources).count(STDIN) > 1:
        raise TextError("standard input (-) is named twice but can be read only once; name it once")
    with ExitStack() as stack:
        files: list[TextFile] = []
        for source in sources:
            if source == STDIN:
                if stdin is None:
                    raise TextError("there is no standard input to read (-); name a file instead")
                files.append(_spooled(stdin, "standard input", "", cache_folder, stack))
            elif source == "python-stdlib":
                files += _python_stdlib()
            elif source == "tinyshakespeare":
                files.append(_tinyshakespeare(cache_folder, data_folder))
            else:
                files += _at_path(os.path.expanduser(source), cache_folder, stack)
        yield files


def absolute_sources(sources: Sequence[str]) -> tuple[str, ...]:
    """The sources as they can be named from any other folder; named corpora and `-` stay as they are."""

    def absolute(source: str) -> str:
        source = os.path.expanduser(source)
        if source in (STDIN, "", *NAMED_CORPORA) or os.path.isabs(source):
            return source
        here = Path.cwd().as_posix()
        return os.path.join(here if os.path.exists(source) else glob.escape(here), source)

    return tuple(map(absolute, sources))


def is_stream(source: str) -> bool:
    """Whether a source gives its text only once: stdin, a process substitution (/dev/fd/63), a FIFO."""
    if source == STDIN or source.startswith(("/dev/", "/proc/")):
        return True
    with suppress(OSError, ValueError):  # there is none of this name, or cannot be
        mode = os.stat(source).st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
    return False


def read_chunks(file: TextFile) -> Iterator[bytes]:
    """The decompressed bytes, CHUNK_BYTES at a time; the first chunk is 4 bytes or more, or the whole file.

    Raises TextError for a file that cannot be read and for a broken or truncated archive.
    """
    try:
        with file.open() as raw, _decompressed(raw, file.suffix) as stream:
            size = max(CHUNK_BYTES, 4)
            while chunk := stream.read(size):
                yield chunk
                size = CHUNK_BYTES
    except _BROKEN_ARCHIVE as error:
        if "too much memory" in str(error):
            raise TextError(
                f"{file.name} was compressed with a window beyond 128 MB (zstd --long), which is not unpacked here; "
                "unpack it yourself with: zstd -d --long=31"
            ) from None
        raise TextError(
            f"{file.name} is a broken archive or was cut short ({error}); compress or download it again"
        ) from None
    except OSError as error:
        raise _unreadable(file.name, error) from None


def _at_path(source: str, cache_folder: Path, stack: ExitStack) -> list[TextFile]:
    try:
        mode = os.stat(source).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        return _matching(source)
    except OSError as error:
        raise _unreadable(repr(source), error) from None
    if stat.S_ISDIR(mode):
        return _in_folder(source)
    if stat.S_ISREG(mode):
        return [_regular(Path(source))]
    try:
        with open(source, "rb") as stream:
            if stat.S_ISFIFO(mode) or stream.isatty():
                return [_spooled(stream, repr(source), Path(source).suffix, cache_folder, stack)]
    except OSError as error:
        raise _unreadable(repr(source), error) from None
    raise TextError(
        f"{source!r} is a device, which may never end; pipe the part you want: head -c 1000000 {source} | charlstm … -"
    )


def _in_folder(folder: str) -> list[TextFile]:
    def refuse(error: OSError) -> None:
        raise _unreadable(repr(error.filename), error) from None

    paths: list[Path] = []
    for parent, inner, names in os.walk(folder, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".")]
        paths += [Path(parent, name) for name in names if not name.startswith(".")]
    files = _found(path for path in paths if path.is_file())
    if not files:
        raise TextError(f"the folder {folder!r} holds no file that is not hidden; put text files into it")
    return files


def _matching(pattern: str) -> list[TextFile]:
    if not glob.has_magic(pattern) or "\0" in pattern:
        close = difflib.get_close_matches(pattern, NAMED_CORPORA, n=1)
        hint = f"did you mean the corpus {close[0]!r}?" if close else f"named corpora: {', '.join(NAMED_CORPORA)}"
        raise TextError(f"there is no file or folder {pattern!r} in {os.getcwd()!r} ({hint})")
    root, *parts = ("/", *pattern.lstrip("/").split("/")) if os.path.isabs(pattern) else ("", *pattern.split("/"))
    files = _found(path for path in _expanded(root, parts) if path.is_file())
    if not files:
        raise TextError(f"the pattern {pattern!r} matches no file in {os.getcwd()!r}; correct it or name a folder")
    return files


def _expanded(base: str, parts: Sequence[str]) -> Iterator[Path]:
    """What the parts of a pattern match below a folder, as glob does, but that no wildcard stands for a linked folder.

    Such a link may lead back to where it is, and its files have another name already, or were not meant.
    """
    if not parts:
        yield Path(base)
        return
    part, *rest = parts
    if part == "**":
        yield from _expanded(base, rest or ["*"])
        for entry in _entries(base):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _expanded(entry.path, parts)
    elif glob.has_magic(part):
        for entry in _entries(base):
            shown = part.startswith(".") or not entry.name.startswith(".")
            if shown and fnmatch.fnmatchcase(entry.name, part) and (not rest or entry.is_dir(follow_symlinks=False)):
                yield from _expanded(entry.path, rest)
    else:
        yield from _expanded(os.path.join(base, part), rest)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            found = list(entries)
    except OSError:  # not there, no folder or not ours to read: nothing matches there
        return []
    return found


def _found(paths: Iterable[Path]) -> list[TextFile]:
    """The files at these paths by their path, each once, by the first of its names that is no link, if there is one."""
    names: dict[tuple[int, int], Path] = {}
    for path in sorted(paths, key=lambda path: (path.is_symlink(), path.as_posix())):
        status = path.stat()
        names.setdefault((status.st_dev, status.st_ino), path)
    return [_regular(path) for path in sorted(names.values(), key=Path.as_posix)]


def _regular(path: Path) -> TextFile:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(repr(str(path)), error) from None
    return TextFile(repr(str(path)), path.suffix, mode, lambda: open(path, "rb"))


def _spooled(stream: BinaryIO, name: str, suffix: str, cache_folder: Path, stack: ExitStack) -> TextFile:
    """A copy of a stream in an anonymous temporary file, so that nothing can leave it behind."""
    try:
        spool = stack.enter_context(tempfile.TemporaryFile(dir=cache_folder))  # noqa: SIM115 - the stack closes it
        for chunk in _until_end(stream, name):
            spool.write(chunk)
        spool.flush()
        mode = _mode_of(stream)
    except OSError as error:
        raise InputOutputError(
            f"cannot copy {name} to the cache {str(cache_folder)!r}: {error.strerror or error}; make room there"
        ) from None

    def reopen() -> BinaryIO:
        again = os.fdopen(os.dup(spool.fileno()), "rb")
        again.seek(0)
        return again

    return TextFile(name, suffix, mode, reopen)


def _mode_of(stream: BinaryIO) -> int:
    """Its permissions; a pipe's are its user's alone, as are those of a stream that is no file."""
    try:
        return os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return 0o600


def _until_end(stream: BinaryIO, name: str) -> Iterator[bytes]:
    try:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise _unreadable(name, error) from None


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _decompressed(raw: BinaryIO, suffix: str) -> AbstractContextManager[_Readable]:
    match suffix:
        case ".gz":
            return gzip.GzipFile(fileobj=raw)
        case ".xz":
            return lzma.LZMAFile(raw)
        case ".zst":
            return io.BufferedReader(_ZstdReader(raw), buffer_size=1 << 17)
        case _:
            return nullcontext(raw)


class _ZstdReader(io.RawIOBase):
    """Zstandard frames as one stream; unlike zstandard's own reader it raises EOFError where a frame is cut short."""

    _INPUT_BYTES = 1 << 10  # 4 bytes can stand for a block of 128 kB, so a hostile kilobyte unfolds to 32 MB at most

    def __init__(self, compressed: BinaryIO) -> None:
        self._compressed = compressed
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._frame.unused_data or self._compressed.read(self._INPUT_BYTES)
            if not data and self._frame.eof:
                return 0
            if not data:
                raise EOFError("its last zstandard frame is incomplete")
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(data))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _python_stdlib() -> list[TextFile]:
    """The running Python's own library, in path order, without tests, installed packages and bundled wheels.

    A file that is not UTF-8 is left out (in CPython 3.11 none is, outside the tests).
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths: list[Path] = []
    for parent, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name not in _NOT_LIBRARY]
        paths += [Path(parent, name) for name in names if name.endswith(".py")]
    files = [_regular(path) for path in sorted(paths, key=Path.as_posix) if _is_utf8(path)]
    if not files:
        raise TextError(f"python-stdlib: this Python has no .py files in {str(root)!r}; name a text of your own")
    return files


def _is_utf8(path: Path) -> bool:
    try:
        path.read_bytes().decode()
    except (UnicodeDecodeError, OSError):
        return False
    return True


def _tinyshakespeare(cache_folder: Path, data_folder: Path | None) -> TextFile:
    """From `data_folder`, else the cache, else the network; its sha256 is checked wherever it comes from."""
    if data_folder is not None and (path := data_folder / TINYSHAKESPEARE_FILE).is_file():
        file = _regular(path)
        digest = sha256()
        for chunk in read_chunks(file):
            digest.update(chunk)
        if digest.hexdigest() != TINYSHAKESPEARE_SHA256:
            raise TextError(
                f"{file.name} is not the tinyshakespeare text: its sha256 is {digest.hexdigest()}, "
                f"not {TINYSHAKESPEARE_SHA256}; replace it, or unset CHARLSTM_DATA to have it downloaded"
            )
        return file
    return _regular(_downloaded(cache_folder))


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


def _unreadable(name: str, error: OSError) -> TextError:
    return TextError(f"{name} cannot be read: {error.strerror or error}; check the path and its permissions")
