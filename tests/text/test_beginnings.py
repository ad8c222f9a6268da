"""Beginnings: lanes that always begin afresh where a text might, while the others read the whole text once an epoch.

Letters: `B` lanes, `T` steps, `N` characters of the text.
"""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.settings import DataSettings
from charlstm.text import Beginnings, Lanes, Vocab, WithBeginnings, start_id
from charlstm.text.beginnings import REACH_CHARS
from charlstm.text.characters import code_points
from charlstm.text.vocabulary import build_vocab


def vocab_of(symbols: str) -> Vocab:
    counts = np.bincount(code_points(symbols), minlength=0x500)
    return build_vocab(counts, DataSettings())


BYTES = build_vocab(np.zeros(256, dtype=np.int64), DataSettings(unit="byte"))


def openings(text: str, *, length: int, steps: int = 300, lanes: int = 2, vocab: Vocab | None = None) -> list[str]:
    """What beginning lanes read of a text, without the start symbol."""
    vocab = vocab or vocab_of(text)
    ids = vocab.encode_text(text, where="it")
    found = []
    for step in range(steps):
        windows = Beginnings(vocab, lanes, 7).windows(ids, length, step=step)
        assert windows.shape == (length + 1, lanes)
        assert (windows[0] == start_id(vocab)).all()
        found += [vocab.to_bytes(window).decode() for window in windows[1:].T]
    return found


def random_text(symbols: str, n: int, seed: int = 3) -> str:
    return "".join(np.random.default_rng(seed).choice(list(symbols), size=n))


@pytest.mark.parametrize(("symbols", "start"), [("ab \n", "\n"), ("xy ", " "), ("yx", "x"), ("\nb", "\n"), ("ж", "ж")])
def test_start_id_is_a_line_end_else_a_space_else_the_first_symbol(symbols: str, start: str) -> None:
    vocab = vocab_of(symbols)
    assert vocab.to_bytes([start_id(vocab)]).decode() == start
    assert start_id(BYTES) == ord("\n")


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_beginnings_are_those_of_paragraphs(line_end: str) -> None:
    paragraphs = [f"{name} says{line_end}a line{line_end}" for name in ("ann", "bea", "cy", "dee")]
    text = line_end.join(paragraphs) + line_end * 2 + "the end, which is too short to begin at"
    assert {found[:3].strip() for found in openings(text, length=20)} == {"bea", "cy", "dee", "the"}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_beginnings_without_blank_lines_are_those_of_lines_each_as_often(line_end: str) -> None:
    names = ["a", "bb" * 40, "c", "d" * 9]
    found = [opening[0] for opening in openings(line_end.join(names) + line_end, length=3, steps=1000)]
    assert {name: found.count(name) for name in set(found)} == pytest.approx(dict.fromkeys("abcd", 500), abs=80)


@pytest.mark.parametrize("vocab", [None, BYTES])
@pytest.mark.parametrize("end", ["", "\n" * 20])
def test_beginnings_where_no_line_begins_near_are_those_of_words(vocab: Vocab | None, end: str) -> None:
    text = "x" * 3 + " a bb ccc" * REACH_CHARS + end
    assert set(openings(text, length=2, vocab=vocab, steps=30)) <= {"xx", "a ", "bb", "cc"}
    found = openings(text, length=4, vocab=vocab)
    assert {"a bb", "bb c", "ccc "} == {opening for opening in found if not opening.startswith("x")}


@given(st.integers(0, 10**6), st.sampled_from(["ab\n", "ab \n", "abc\n\n\r", "ab "]), st.integers(30, 300))
def test_beginnings_follow_a_divider_and_are_no_empty_lines(seed: int, symbols: str, n: int) -> None:
    text = random_text(symbols, n, seed)
    divider = "\n" if "\n" in text else " "
    starts = {match.end() for match in re.finditer(f"(?:^|{divider})(?=[^\r{divider}])", text)}
    for found in openings(text, length=10, steps=5):
        places = {match.start() for match in re.finditer(f"(?={re.escape(found)})", text)}
        assert places & starts or not starts & set(range(n - 9))


@pytest.mark.parametrize("text", ["ACGT" * 50, "x" * REACH_CHARS * 9 + "\n"])
def test_beginnings_are_anywhere_in_a_text_that_nothing_divides(text: str) -> None:
    assert len(openings(text, length=9)) == 600


def test_beginnings_of_a_text_as_long_as_one_window_are_its_own() -> None:
    assert set(openings("ab\ncd", length=5)) == {"ab\ncd"}


SIZES = (
    st.tuples(st.integers(2, 7), st.integers(1, 9), st.integers(0, 6))
    .flatmap(lambda bt: st.tuples(st.integers(bt[0] * bt[1] + 1, 10 * bt[0] * bt[1] + 12), *map(st.just, bt)))
    .filter(lambda sizes: sizes[3] < sizes[1])
)  # N, B, T, beginnings


@given(SIZES, st.integers(0, 3))
def test_the_other_lanes_are_a_stream_of_as_many_lanes(sizes: tuple[int, ...], epoch: int) -> None:
    n, b, t, begin = sizes
    vocab = vocab_of("ab\n")
    ids = np.arange(n)
    stream = Lanes(ids, b - begin, t)
    lanes = WithBeginnings(stream, Beginnings(vocab, begin, 5))
    assert lanes.steps_per_epoch == stream.steps_per_epoch
    assert lanes.chars_per_step == b * t
    for step in range(lanes.steps_per_epoch):
        batch, of_stream = lanes.batch(step + epoch * lanes.steps_per_epoch), stream.batch(step)
        for part, of_part in zip(batch, of_stream, strict=True):
            assert np.array_equal(part[..., : b - begin], of_part)
        assert batch.fresh[b - begin :].all()
        assert batch.mask.all()
        assert (batch.inputs[0, b - begin :] == start_id(vocab)).all()
        assert np.array_equal(batch.following[:-1, b - begin :], batch.inputs[1:, b - begin :])


def test_beginnings_are_a_function_of_seed_step_and_lane() -> None:
    vocab = vocab_of("ab\n")
    ids = vocab.encode_text(random_text("ab\n", 4000), where="it")

    def windows(seed: int, step: int, lanes: int) -> list[list[int]]:
        return Beginnings(vocab, lanes, seed).windows(ids, 30, step=step).T.tolist()

    assert windows(1, 8, 2) == windows(1, 8, 3)[:2]
    assert len({str(windows(*place)) for place in ((1, 8, 2), (2, 8, 2), (1, 9, 2))}) == 3
    assert windows(1, 8, 2)[0] != windows(1, 8, 2)[1]


def test_beginnings_read_little_of_a_memory_mapped_text(tmp_path: Path) -> None:
    path = tmp_path / "text.ids"
    with path.open("wb") as file:
        file.truncate(1 << 28)  # a hole in the file system
    ids = np.memmap(path, dtype="<u2", mode="r")
    tracemalloc.start()
    try:
        for step in range(3):
            Beginnings(vocab_of("ab\n"), 3, 1).windows(ids, 17, step=step)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 400_000
