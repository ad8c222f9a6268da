"""Splits: every document in one part, equal ones in the same, by the seed; or in the order of the text."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import TextError
from charlstm.settings import DataSettings
from charlstm.text import documents, splits
from charlstm.text.documents import find_bounds
from charlstm.text.splits import cut_places, document_keys, split_documents

END = 5
TEXTS = st.lists(st.binary(min_size=1, max_size=4).map(lambda one: bytes(value % END for value in one)), min_size=3)


def encode(texts: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(text + bytes([END]) for text in texts), np.uint8)


def split(texts: list[bytes], seed: int = 1, **changes: Any) -> tuple[list[list[bytes]], Any]:
    data = DataSettings(**{"split": (0.6, 0.2, 0.2), "documents": "line", **changes})
    parts, counts = split_documents(encode(texts), END, data, seed=seed, folder=Path())
    found = [bytes(part).split(bytes([END])) for part in parts]
    assert all(part[-1] == b"" for part in found)
    assert tuple(counts[:3]) == tuple(len(part) - 1 for part in found)
    return [part[:-1] for part in found], counts


@pytest.fixture(autouse=True, scope="module")
def in_its_own_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("splits"))
        yield


@given(TEXTS, st.integers(1, 9), st.integers(1, 30))
def test_splits_keep_every_document_and_equal_ones_together(texts: list[bytes], seed: int, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in (documents, splits):
            patch.setattr(module, "SCANNED_AT_ONCE", at_once)
        parts, counts = split(texts, seed)
    assert sorted(chain(*parts)) == sorted(texts)
    of_part = [set(part) for part in parts]
    assert sum(map(len, of_part)) == len(set(texts))
    assert counts.duplicates == len(texts) - len(set(texts))
    assert counts.shared == 0
    for part in parts:  # the order of the text
        positions = [index for index, text in enumerate(texts) if text in set(part)]
        assert [texts[index] for index in positions] == part


@given(TEXTS)
def test_splits_drop_what_occurred_before(texts: list[bytes]) -> None:
    distinct = list(dict.fromkeys(texts))
    if len(distinct) < 2:
        return
    parts, counts = split(texts, deduplicate="drop")
    assert sorted(chain(*parts)) == sorted(distinct)
    assert [len(part) for part in parts[::2]] == [int(len(distinct) * 0.6), int(len(distinct) * 0.2)]
    assert counts.duplicates == len(texts) - len(distinct)
    in_order, _ = split(texts, deduplicate="drop", shuffle=False)
    assert [*chain(*in_order)] == distinct


def test_splits_are_exact_without_duplicates_and_drawn_by_the_seed() -> None:
    texts = [bytes([a, b, c]) for a in range(5) for b in range(5) for c in range(5)]
    parts, _ = split(texts)
    assert [len(part) for part in parts] == [75, 25, 25]
    again, other = split(texts)[0], split(texts, seed=2)[0]
    assert again == parts != other
    firsts = Counter(text[0] for text in parts[1])
    assert len(firsts) == 5  # and not the last 25, which begin with 4
    assert [len(part) for part in split(texts, split=(1.0, 0.0, 0.0))[0]] == [125, 0, 0]
    assert [len(part) for part in split(texts, split=(0.8, 0.0, 0.2))[0]] == [100, 0, 25]


def test_splits_in_the_order_of_the_text_say_how_many_flatter() -> None:
    texts = [b"\1", b"\2", b"\1", b"\3", b"\1", b"\4", b"\2", b"\4", b"\1", b"\0"]
    parts, counts = split(texts, shuffle=False)
    assert parts == [texts[:6], texts[6:8], texts[8:]]
    assert (counts.duplicates, counts.shared) == (5, 3)


def test_cut_places_are_in_order_also_for_fractions_that_sum_to_a_little_more_than_one() -> None:
    for count in (10, 2_000_000, 10**9):
        end_of_train, end_of_val = cut_places(count, (0.9999995, 1e-9, 1.3e-6))
        assert 0 < end_of_train <= end_of_val <= count


def test_splits_need_a_document_to_train_on() -> None:
    with pytest.raises(TextError, match=r"the text has 1 document, of which data\.split leaves none to train on"):
        split([b"\1\2"])
    assert [len(part) for part in split([b"\1"] * 9)[0]] == [9, 0, 0]  # equal ones are one


def test_document_keys_depend_on_the_document_and_the_seed_alone() -> None:
    texts = [bytes([1, 2, 3]), b"\1", bytes([3, 2, 1]), bytes([1, 2, 3]), b"\0", b"\0\0", b"\0\0\0", b"\1"]

    def keys(texts: list[bytes], seed: int = 1) -> list[int]:
        ids = encode(texts)
        return [int(key) for key in document_keys(ids, find_bounds(ids, END), seed)]

    found = keys(texts)
    assert len(set(found)) == len(set(texts))
    assert [found[0], found[1]] == [found[3], found[7]]
    assert keys(texts[::-1]) == found[::-1]
    assert not set(keys(texts, seed=2)) & set(found)
