"""Copies from a training text: what a search by brute force finds."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.text import GRAMS, copies, find_copies

END = 0
ids = st.lists(st.integers(0, 3), max_size=200)


def grams(parts: list[list[int]], n: int) -> list[tuple[int, ...]]:
    return [tuple(part[at : at + n]) for part in parts for at in range(len(part) - n + 1)]


def lines_of(text: list[int]) -> Iterator[tuple[int, ...]]:
    line: list[int] = []
    for one in [*text, END]:
        if one == END:
            if line:
                yield tuple(line)
            line = []
        else:
            line.append(one)


@given(
    training=ids.filter(bool),
    text=ids,
    copied=st.tuples(st.integers(0, 150), st.integers(0, 90)),
    apart=st.booleans(),
    piece=st.integers(1, 70),
)
def test_copies_are_those_found_by_brute_force(
    training: list[int], text: list[int], copied: tuple[int, int], apart: bool, piece: int
) -> None:
    text = text[: len(text) // 2] + training[copied[0] : sum(copied)] + [-1] + text[len(text) // 2 :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "PIECE", piece)
        (found,) = find_copies(np.array(training, np.uint8), [np.array(text)], end=END, apart=apart)
    parts = list(map(list, lines_of(text))) if apart else [text]
    for n in GRAMS:
        there = set(grams([training], n))
        of_text = grams(parts, n)
        assert found.shares[n] == (sum(gram in there for gram in of_text) / len(of_text) if of_text else None)
    longest = 0
    while set(grams(parts, longest + 1)) & set(grams([training], longest + 1)):
        longest += 1
    assert found.longest == longest
    assert training[found.place_in_training :][:longest] == text[found.place :][:longest]
    lines = list(lines_of(text))
    assert found.documents == len(lines)
    assert found.share_of_documents == sum(line in set(lines_of(training)) for line in lines) / len(lines)


@pytest.mark.parametrize("piece", [1 << 17, 37])
def test_several_texts_are_each_measured_alone(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "PIECE", piece)
    rng = np.random.default_rng(1)
    training: Any = rng.integers(1, 200, 5000).astype(np.uint8)
    one, other = training[100:400], rng.integers(1, 200, 300)
    together = find_copies(training, [one, other], end=None, apart=False)
    assert together == [find_copies(training, [text], end=None, apart=False)[0] for text in (one, other)]
    assert (together[0].longest, together[0].place_in_training, together[0].shares[32]) == (300, 100, 1.0)
    assert together[1].share_of_documents is None
