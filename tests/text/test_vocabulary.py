"""Vocabulary: round trips, policies for unknown characters, and a strict reader."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from charlstm.errors import RunError, TextError
from charlstm.text import end_id, start_id
from charlstm.text.characters import (
    BOUNDARY,
    CODE_POINTS,
    code_points,
)
from charlstm.text.vocabulary import BOUNDARY_SHOWN, Vocab, shared_ids

from ..analysis.small_models import vocab_of

char_vocabs = st.builds(
    vocab_of, st.text(min_size=1), unknown=st.sampled_from(["error", "skip", "replace"]), newline=st.just("normalize")
)


@given(st.text(min_size=1))
def test_vocab_decodes_what_it_encoded(text):
    vocab = vocab_of(text)
    ids = vocab.encode_text(text, where="it")
    assert vocab.to_bytes(ids).decode() == text
    assert "".join(vocab.symbol(i) for i in ids) == text
    assert ids.tolist() == [sorted(set(text)).index(character) for character in text]


@given(st.binary())
def test_vocab_of_bytes_takes_every_byte_as_itself(raw):
    vocab = vocab_of("", unit="byte", min_count=9)
    ids = vocab.encode_text(raw, where="it")
    assert ids.tolist() == list(raw)
    assert vocab.to_bytes(ids) == raw
    assert (vocab.size, vocab.unknown_id, vocab.id_dtype) == (256, None, np.uint8)


def test_vocab_of_bytes_takes_a_string_as_utf8():
    vocab = vocab_of("", unit="byte")
    assert vocab.encode_text("aé", where="it").tolist() == [0x61, 0xC3, 0xA9]
    assert [vocab.symbol(i) for i in (0x61, 0, 0xFF)] == ["a", "\\x00", "\\xff"]


@pytest.mark.parametrize(
    ("unit", "unknown", "size"), [("char", "error", 3), ("char", "replace", 4), ("byte", "error", 257)]
)
def test_vocab_of_documents_has_a_boundary_that_no_text_holds_and_none_shows(unit, unknown, size):
    stream = vocab_of("ba", unit=unit, unknown=unknown)
    vocab = replace(stream, has_boundary=True)
    assert vocab.size == stream.size + 1 == size
    assert vocab.boundary_id == start_id(vocab) == end_id(vocab) == size - 1
    assert stream.boundary_id is None
    assert vocab.unknown_id == stream.unknown_id
    ids = vocab.encode_codes(code_points("ab" + BOUNDARY + "b" + BOUNDARY), where="it")
    assert np.array_equal(ids[[0, 1, 3]], stream.encode_text("abb", where="it"))
    assert ids[[2, 4]].tolist() == [size - 1] * 2
    assert vocab.to_bytes(ids) == b"abb"
    assert vocab.symbol(size - 1) == BOUNDARY_SHOWN
    with pytest.raises(TextError, match="lone surrogate"):
        vocab.encode_text("a" + BOUNDARY, where="it")
    assert Vocab.from_json(vocab.to_json(), where="it") == vocab
    assert "has_boundary" not in stream.to_json()
    assert shared_ids(vocab, vocab)[0] == [*range(size)]
    assert shared_ids(vocab, stream)[0] == [*range(size - 1)]


def test_vocab_with_policy_replace_has_the_unknown_symbol_stand_for_what_is_met_once():
    vocab = vocab_of("aabbc", unknown="replace")
    assert vocab.symbols == ("a", "b")
    assert vocab.encode_text("abc", where="it").tolist() == [0, 1, vocab.unknown_id]
    assert vocab_of("aabbc", unknown="skip").symbols == ("a", "b", "c")
    assert vocab_of("abc", unknown="replace").symbols == ("a", "b", "c")  # nothing else would be left


def test_end_id_of_a_stream_is_its_line_end():
    assert vocab_of("a\n").symbol(end_id(vocab_of("a\n"))) == "\n"
    assert end_id(vocab_of("a b")) is None


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_vocab_unifies_line_ends_of_a_prompt(unit):
    vocab = vocab_of("ab\n", unit=unit, newline="normalize")
    assert vocab.to_bytes(vocab.encode_text("a\r\nb\ra\n\r", where="it")) == b"a\nb\na\n\n"


def test_vocab_refuses_and_names_unknown_characters_with_policy_error():
    with pytest.raises(TextError, match=r"in the prompt: 'é' \(U\+00E9\), '😀' \(U\+1F600\);"):
        vocab_of("abc").encode_text("a😀éb😀", where="the prompt")


def test_vocab_drops_unknown_characters_with_policy_skip():
    vocab = vocab_of("abc", unknown="skip")
    assert vocab.encode_text("a😀éb\x00", where="it").tolist() == [0, 1]
    assert vocab.encode_text("😀", where="it").tolist() == []
    assert vocab.unknown_characters("😀a\x00😀") == ["\x00", "😀"]


def test_vocab_replaces_unknown_characters_with_policy_replace():
    vocab = vocab_of("abc", unknown="replace")
    assert (vocab.size, vocab.unknown_id) == (4, 3)
    ids = vocab.encode_text("aéc", where="it")
    assert ids.tolist() == [0, 3, 2]
    assert vocab.to_bytes(ids).decode() == "a\ufffdc"
    assert vocab.symbol(3) == "\ufffd"


def test_vocab_tells_a_known_replacement_character_from_the_unknown_symbol():
    vocab = vocab_of("a\ufffd", unknown="replace")
    assert vocab.encode_text("\ufffd?", where="it").tolist() == [1, 2]


def test_vocab_leaves_out_characters_rarer_than_min_count():
    vocab = vocab_of("aaabbc", min_count=2)
    assert (vocab.symbols, vocab.unknown_id, vocab.size) == (("a", "b"), 2, 3)
    assert not vocab_of("aaabbb", min_count=2).has_unknown_symbol
    with pytest.raises(TextError, match="'c'"):  # the policy is about text met after training
        vocab.encode_text("abc", where="it")


def test_vocab_refuses_a_min_count_that_leaves_nothing():
    with pytest.raises(TextError, match="min_count = 4 times, the most frequent one occurs 3 times"):
        vocab_of("aaab", min_count=4)


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_vocab_refuses_a_lone_surrogate(unit):
    with pytest.raises(TextError, match=r"U\+DC80 at character 2"):
        vocab_of("ab", unit=unit, unknown="skip").encode_text("a\udc80b", where="the prompt")


def test_vocab_reads_bytes_as_utf8_without_byte_order_mark():
    assert vocab_of("é").encode_text(b"\xef\xbb\xbf\xc3\xa9", where="it").tolist() == [0]
    with pytest.raises(TextError, match=r"byte offset 6, line 2 \(0xff\)"):
        vocab_of("a").encode_text(b"\xef\xbb\xbfa\na\xff", where="it")
    with pytest.raises(TextError, match="UTF-16"):
        vocab_of("a").encode_text("a".encode("utf-16"), where="it")


@pytest.mark.parametrize(
    ("symbols", "dtype"), [(256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.uint32)]
)
def test_vocab_takes_the_smallest_integers(symbols, dtype):
    text = "".join(chr(0x10000 + i) for i in range(symbols))
    ids = vocab_of(text).encode_text(text, where="it")
    assert ids.dtype == dtype
    assert np.array_equal(ids, np.arange(symbols))


def test_vocab_holds_every_character_there_is():
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, CODE_POINTS)]))
    vocab = vocab_of(text)
    assert vocab.size == 1_112_064
    ids = vocab.encode_text(text, where="it")
    assert ids.dtype == np.uint32
    assert vocab.to_bytes(ids).decode() == text
    assert Vocab.from_json(vocab.to_json(), where="it") == vocab


@given(char_vocabs)
def test_vocab_survives_json(vocab):
    assert Vocab.from_json(vocab.to_json(), where="it") == vocab
    assert Vocab.from_json(vocab.to_json().encode(), where="it") == vocab


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none(), st.lists).map(json.dumps)))
@example("[" * 100_000)
@example("1" * 5000)
@example('{"unit": "char", "unit": "char"}')
def test_vocab_reader_refuses_anything_else_in_one_way(text):
    with pytest.raises(RunError, match=r"^the file is not a vocabulary: "):
        Vocab.from_json(text, where="the file")


@given(st.data())
def test_vocab_reader_never_fails_otherwise_on_damage(data):
    raw = bytearray(vocab_of("aé\n😀", unknown="replace").to_json().encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        Vocab.from_json(bytes(raw), where="the file")
    except RunError:
        return


GOOD = {"unit": "char", "newline": "keep", "unknown": "error", "has_unknown_symbol": False, "symbols": ["a", "b"]}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"unit": "word"}, "unit must be one of char, byte"),
        ({"unknown": None}, "unknown must be"),
        ({"newline": ["keep"]}, "newline must be"),
        ({"has_unknown_symbol": 1}, "true or false"),
        ({"symbols": "ab"}, "list of single"),
        ({"symbols": ["a", "bc"]}, "list of single"),
        ({"symbols": ["a", 5]}, "list of single"),
        ({"symbols": []}, "no symbols"),
        ({"symbols": ["b", "a"]}, "order"),
        ({"symbols": ["a", "a"]}, "each once"),
        ({"symbols": ["a", "\ud800"]}, "surrogate"),
        ({"unknown": "replace"}, "needs the unknown symbol"),
        ({"unit": "byte"}, "no symbols to list"),
        ({"more": 1}, "was expected"),
    ],
)
def test_vocab_reader_says_what_is_wrong(change, complaint):
    assert Vocab.from_json(json.dumps(GOOD), where="it").symbols == ("a", "b")
    with pytest.raises(RunError, match=complaint):
        Vocab.from_json(json.dumps({**GOOD, **change}), where="it")


def test_vocab_normal_form_goes_with_it_and_is_that_of_prompts():
    vocab = replace(vocab_of("é"), normalize="nfc")
    assert Vocab.from_json(vocab.to_json(), where="it") == vocab
    assert vocab.encode_text("e\u0301é", where="it").tolist() == [0, 0]


@pytest.mark.parametrize(
    ("known", "text", "form"), [("é", "e\u0301", "NFC"), ("e\u0301", "é", "NFD"), ("fi", "ﬁ", "NFKC")]
)
def test_vocab_names_the_form_in_which_an_unknown_character_is_known(known, text, form):
    with pytest.raises(TextError, match=f"which it knows in another form: put the text into Unicode's {form}"):
        vocab_of(known).encode_text(text, where="the prompt")
    assert vocab_of(known).form_hint(code_points("ж")) == ""
    assert form in vocab_of(known).form_hint(code_points(f"{text}{BOUNDARY}{text}"))
    assert form in vocab_of(known).form_hint(code_points(text + "a\u0301\u0316" * 1_000_000))  # or it would take hours
