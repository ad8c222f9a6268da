"""Ids as text: one character an id, one visible symbol an id."""

import numpy as np

from charlstm.analysis.symbols import text_of, visible_symbols

from .small_models import BYTES, vocab_of


def test_text_has_one_character_an_id():
    text = "a\n\té\u0301😀\r"
    vocab = vocab_of(text)
    assert text_of(vocab, vocab.encode_text(text, where="it")) == text
    assert text_of(BYTES, np.array([0xC3, 0xA9, 10])) == "Ã©\n"


def test_symbols_are_all_visible():
    vocab = vocab_of("a \n\t\r\x1b\x7f\x85é\u0301\u200b\u2028\u202e😀")
    assert visible_symbols(vocab) == (
        ["⇥", "↵", "␍", "␛", " ", "a", "U+007F", "U+0085", "é", "◌\u0301", "U+200B", "U+2028", "U+202E", "😀"]
    )
    shown = visible_symbols(BYTES)
    assert (shown[10], shown[65], shown[255], shown[0]) == ("↵", "A", "\\xff", "\\x00")
