"""Lines as they come: nothing is lost wherever the input is cut, and nothing is waited for that is not needed."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.text import LineReader, LongLine, line_input


def bytes_of(line: bytes | LongLine) -> bytes:
    return line if isinstance(line, bytes) else b"".join(line.chunks())


def read_all(chunks: list[bytes], most_lines: int, most_bytes: int) -> list[bytes | LongLine]:
    """The lines of a pipe into which the chunks are written one by one."""
    out, into = os.pipe()

    def feed() -> None:
        for chunk in chunks:
            os.write(into, chunk)
        os.close(into)

    writer = threading.Thread(target=feed)
    writer.start()
    with open(out, "rb") as source:
        reader, found = LineReader(source), []
        while lines := reader.take(most_lines, most_bytes):
            found += lines
    writer.join()
    return found


@given(
    chunks=st.lists(st.text("ab\n\r\0é", max_size=30).map(str.encode), max_size=9),
    most_lines=st.integers(1, 5),
    long=st.integers(1, 40),
    chunk=st.integers(1, 16),
)
def test_lines_are_whole_wherever_the_input_is_cut(chunks: list[bytes], most_lines: int, long: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_input, "LONG_BYTES", long)
        patch.setattr(line_input, "CHUNK_BYTES", chunk)
        found = read_all(chunks, most_lines, 10)
        whole = b"".join(chunks)
        assert list(map(bytes_of, found)) == whole.removesuffix(b"\n").split(b"\n") if whole else not found
        for line in found:
            if isinstance(line, LongLine):
                head = line.head()
                head.decode()  # cuts no character in two
                assert bytes_of(line).startswith(head)
                assert min(long, len(bytes_of(line))) - len(head) < 2


def test_what_has_come_is_given_at_once_and_an_unfinished_line_is_waited_for() -> None:
    out, into = os.pipe()
    with open(out, "rb") as source:
        reader = LineReader(source)
        os.write(into, b"one\ntwo\nthr")
        assert reader.take(10, 100) == [b"one", b"two"]
        os.write(into, b"ee\nfour")
        assert reader.take(10, 100) == [b"three"]
        os.close(into)
        assert reader.take(10, 100) == [b"four"]
        assert reader.take(10, 100) == []
