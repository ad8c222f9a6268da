"""The set of known documents: exactly those of the text, on disk, and nothing that was damaged."""

import os
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.text import KnownDocuments, open_known, write_known

END = 3
documents = st.lists(st.lists(st.sampled_from([0, 1, 2]), max_size=5), max_size=12)


def ids_of(texts: list[list[int]], *, ended: bool = True) -> np.ndarray:
    joined = [one for text in texts for one in (*text, END)]
    return np.array(joined if ended else joined[:-1], dtype=np.uint16)


@given(documents, st.lists(st.sampled_from([0, 1, 2]), max_size=5))
def test_known_documents_are_those_of_the_text_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[int]], other: list[int]
) -> None:
    path = tmp_path_factory.mktemp("known") / "text.known"
    written = write_known(path, ids_of(texts), END)
    opened = open_known(path)
    assert opened is not None
    assert len(opened) == len(written) == len(texts)
    for known in (written, opened):
        assert all(np.array(text, dtype=np.uint16) in known for text in texts)
        assert (np.array(other, dtype=np.uint16) in known) == (other in texts)


def test_known_documents_hold_what_follows_the_last_end(tmp_path: Path) -> None:
    known = write_known(tmp_path / "known", ids_of([[1], [2, 0]], ended=False), END)
    assert np.array([2, 0], dtype=np.uint16) in known
    assert len(known) == 2


def test_known_documents_that_are_damaged_or_from_others_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "known"
    assert open_known(path) is None
    write_known(path, ids_of([[1], [2, 0], []]), END)
    data = path.read_bytes()
    for damaged in (data[:-1], data[:20], b"", data[:40] + b"x" + data[41:], data + data[-16:]):
        path.write_bytes(damaged)
        assert open_known(path) is None
    path.write_bytes(data)
    os.chmod(path, 0o666)
    assert open_known(path) is None
    os.chmod(path, 0o644)
    assert open_known(path) is not None


def test_known_documents_are_told_apart_by_both_halves_of_a_hash() -> None:
    ids = np.array([1, 2], dtype=np.uint16)
    first, second = np.frombuffer(blake2b(ids.tobytes(), digest_size=16).digest(), dtype="<u8")
    assert ids in KnownDocuments(np.array([[first, first, first], [second - 9, second, second + 9]]))
    assert ids not in KnownDocuments(np.array([[first, first], [second - 9, second + 9]]))
    assert ids not in KnownDocuments(np.array([[first + 1], [second]]))
