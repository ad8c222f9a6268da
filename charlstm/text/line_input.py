"""Lines from a file, a pipe or a terminal, as they come: all that can be read now, without waiting for more."""

import io
import os
import select
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeAlias

CHUNK_BYTES = 1 << 18
LONG_BYTES = 1_000_000  # a longer line is kept in a temporary file


class LongLine:
    """A line of more than LONG_BYTES, without its line end, in an anonymous temporary file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __del__(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._file.seek(0, os.SEEK_END)

    def chunks(self) -> Iterator[bytes]:
        """Its bytes from the first on."""
        place = 0
        while chunk := os.pread(self._file.fileno(), CHUNK_BYTES, place):
            place += len(chunk)
            yield chunk

    def head(self) -> bytes:
        """Its first LONG_BYTES, by which it is judged, less a character that they cut in two."""
        data = os.pread(self._file.fileno(), LONG_BYTES, 0)
        return data[: len(data) - _unfinished(data)]


Line: TypeAlias = bytes | LongLine


def whole_line(line: Line) -> bytes:
    """All bytes of a line, in memory."""
    return line if isinstance(line, bytes) else b"".join(line.chunks())


class LineReader:
    """Reads lines from an open file; the last one needs no line end."""

    def __init__(self, source: io.BufferedReader, wait: Callable[[], None] = lambda: None) -> None:
        """source: nothing has been read from it, and nothing else reads from it. wait: called before each reading."""
        self._source, self._wait = source, wait
        self._ready: deque[Line] = deque()
        self._rest = b""  # of a line whose end has not come
        self._spooled: BinaryIO | None = None  # the beginning of a long one
        self._ended = False

    def take(self, most_lines: int, most_bytes: int) -> list[Line]:
        """The next lines without their ends: at most so many, and no more bytes than a line above the limit.

        Waits only if there is none, and gives none at the end of the input. A long line comes alone. Raises OSError.
        """
        while not self._ended and len(self._ready) < most_lines and (not self._ready or self._readable()):
            self._read()
        taken: list[Line] = []
        size = 0
        while self._ready and len(taken) < most_lines and size < most_bytes:
            if isinstance(self._ready[0], LongLine):
                return taken or [self._ready.popleft()]
            taken.append(self._ready.popleft())
            size += len(taken[-1])
        return taken

    def _readable(self) -> bool:
        try:
            return bool(select.select([self._source], [], [], 0)[0])
        except io.UnsupportedOperation:  # bytes in memory
            return True

    def _read(self) -> None:
        self._wait()
        chunk = self._source.read1(CHUNK_BYTES)  # one reading, which leaves nothing in the buffer
        self._ended = not chunk
        *complete, rest = chunk.split(b"\n")
        if complete:
            self._ready.append(self._end_line(complete[0]))
            self._ready.extend(complete[1:])
            self._rest = rest
        else:
            self._hold(rest)
        if self._ended and (self._rest or self._spooled is not None):
            self._ready.append(self._end_line(b""))

    def _hold(self, part: bytes) -> None:
        """Keep a part of a line whose end has not come, in memory as long as it is not long."""
        if self._spooled is None:
            self._rest += part
            if len(self._rest) <= LONG_BYTES:
                return
            self._spooled = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as its line
            part, self._rest = self._rest, b""
        self._spooled.write(part)

    def _end_line(self, last: bytes) -> Line:
        self._hold(last)
        if self._spooled is None:
            line, self._rest = self._rest, b""
            return line
        file, self._spooled = self._spooled, None
        file.flush()
        return LongLine(file)


def _unfinished(data: bytes) -> int:
    """How many of the last bytes begin a character of UTF-8 that goes on."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            return back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            return 0
    return 0
