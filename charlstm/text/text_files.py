"""Files as streams of bytes, decompressed as they are read."""

import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import zstandard

from charlstm.errors import TextError

CHUNK_BYTES = 1 << 20  # large enough that a chunk's own cost vanishes, small beside the process itself
COMPRESSED_ENDINGS = (".gz", ".xz", ".zst")
_BROKEN_ARCHIVE = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError)


@dataclass(frozen=True)
class TextFile:
    """One file's worth of text that can be read again and again; `name` is what an error calls it."""

    name: str
    suffix: str  # .gz, .xz and .zst are decompressed
    mode: int  # its permissions, which hold for what is made of it
    open: Callable[[], BinaryIO]


def regular_file(path: Path) -> TextFile:
    """The text file at a path. Raises TextError if it cannot be read."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise unreadable(repr(str(path)), error) from None
    return TextFile(repr(str(path)), path.suffix, mode, lambda: open(path, "rb"))


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
        raise unreadable(file.name, error) from None


def open_unpacked(path: Path) -> io.BufferedReader:
    """A file to read bytes from, decompressed where its name says so. Raises OSError, TextError, ValueError."""
    if path.suffix not in COMPRESSED_ENDINGS:
        return open(path, "rb")
    return io.BufferedReader(_Unpacked(read_chunks(regular_file(path))))


class _Unpacked(io.RawIOBase):
    """Chunks of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def unreadable(name: str, error: OSError) -> TextError:
    """The error of a file that cannot be read."""
    return TextError(f"{name} cannot be read: {error.strerror or error}; check the path and its permissions")


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
