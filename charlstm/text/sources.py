"""Where text comes from: files, folders, patterns, pipes, compressed files and named corpora, as streams of bytes."""

import difflib
import fnmatch
import glob
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from charlstm.errors import InputOutputError, TextError
from charlstm.text.named_corpora import NAMED_CORPORA, python_stdlib, tinyshakespeare
from charlstm.text.text_files import CHUNK_BYTES, TextFile, regular_file, unreadable

STDIN = "-"


@contextmanager
def open_sources(
    sources: Sequence[str], *, cache_folder: Path, data_folder: Path | None, stdin: BinaryIO | None
) -> Iterator[list[TextFile]]:
    """The files behind the sources, in order, readable until the context ends.

    A file is taken as it is, decompressed if it ends in .gz, .xz or .zst; a folder gives its regular files that are not
    hidden, at any depth; a pattern the regular files it matches (`**` for any depth; no wildcard stands for a link to a
    folder), each once, however many names it has there; both by their path, with chapter-2 before chapter-10. `-` is
    standard input; a leading `~` is the home folder. What can be read only once (stdin, a FIFO) is copied to an
    anonymous temporary file in `cache_folder` first.
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
                files += python_stdlib()
            elif source == "tinyshakespeare":
                files.append(tinyshakespeare(cache_folder, data_folder))
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


def _at_path(source: str, cache_folder: Path, stack: ExitStack) -> list[TextFile]:
    try:
        mode = os.stat(source).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        return _matching(source)
    except OSError as error:
        raise unreadable(repr(source), error) from None
    if stat.S_ISDIR(mode):
        return _in_folder(source)
    if stat.S_ISREG(mode):
        return [regular_file(Path(source))]
    try:
        with open(source, "rb") as stream:
            if stat.S_ISFIFO(mode) or stream.isatty():
                return [_spooled(stream, repr(source), Path(source).suffix, cache_folder, stack)]
    except OSError as error:
        raise unreadable(repr(source), error) from None
    raise TextError(
        f"{source!r} is a device, which may never end; pipe the part you want: head -c 1000000 {source} | charlstm … -"
    )


def _in_folder(folder: str) -> list[TextFile]:
    paths: list[str] = []
    folders = [folder]
    try:
        while folders:  # os.walk recurses before Python 3.12, and folders may be nested more deeply than calls
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        (folders if entry.is_dir(follow_symlinks=False) else paths).append(entry.path)
        files = _found(path for path in map(Path, paths) if path.is_file())
    except OSError as error:
        raise unreadable(repr(error.filename), error) from None
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
    waiting = [(base, parts)]
    while waiting:
        base, parts = waiting.pop()
        if not parts:
            yield Path(base)
            continue
        part, *rest = parts
        if part == "**":
            waiting.append((base, rest or ["*"]))
            for entry in _entries(base):
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    waiting.append((entry.path, parts))
        elif glob.has_magic(part):
            for entry in _entries(base):
                shown = part.startswith(".") or not entry.name.startswith(".")
                if (
                    shown
                    and fnmatch.fnmatchcase(entry.name, part)
                    and (not rest or entry.is_dir(follow_symlinks=False))
                ):
                    waiting.append((entry.path, rest))
        else:
            waiting.append((os.path.join(base, part), rest))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            found = list(entries)
    except OSError:  # not there, no folder or not ours to read: nothing matches there
        return []
    return found


def _found(paths: Iterable[Path]) -> list[TextFile]:
    """The files at these paths in the order of their names, each once, by the first that is no link if there is one."""
    names: dict[tuple[int, int], Path] = {}
    for path in sorted(paths, key=lambda path: (path.is_symlink(), _in_order(path))):
        status = path.stat()
        names.setdefault((status.st_dev, status.st_ino), path)
    return [regular_file(path) for path in sorted(names.values(), key=_in_order)]


def _in_order(path: Path) -> list[tuple[str, int]]:
    """Their path, but chapter-2 before chapter-10."""
    pieces = re.findall(r"([^0-9]*)([0-9]{,15})", path.as_posix())
    return [(word, int(number or -1)) for word, number in pieces]


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
            f"cannot copy {name} to the cache {str(cache_folder)!r}: {error.strerror or error}; free some space there"
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
        raise unreadable(name, error) from None
