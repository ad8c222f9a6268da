"""Ids as text to look at: one character, or one visible symbol, an id.

Letters: `T` characters, `V` vocabulary.
"""

import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.text.vocabulary import Vocab

_REPLACEMENTS = {"\n": "↵", "\t": "⇥", "\\x0a": "↵", "\\x09": "⇥"}


def text_of(vocab: Vocab, ids: NDArray[np.integer[Any]]) -> str:
    """The text of ids (T,) with exactly one character an id: of a byte that of its code, of a boundary a line end."""
    ends = np.flatnonzero(ids == vocab.boundary_id) if vocab.has_boundary else np.zeros(0, np.intp)
    encoding = "latin-1" if vocab.unit == "byte" else "utf-8"
    return "\n".join(vocab.to_bytes(part).decode(encoding) for part in np.split(ids, ends))


def visible_symbols(vocab: Vocab) -> list[str]:
    """Every symbol (V) in a form that is visible and moves no cursor: ↵ for a line end, ⇥ for a tab, …"""
    return [_visible(vocab.symbol(symbol_id)) for symbol_id in range(vocab.size)]


def _visible(symbol: str) -> str:
    if symbol in _REPLACEMENTS:
        return _REPLACEMENTS[symbol]
    if len(symbol) > 1:
        return symbol  # a byte written \xff
    if ord(symbol) < 0x20:
        return chr(0x2400 + ord(symbol))
    category = unicodedata.category(symbol)
    if category.startswith("M"):
        return "◌" + symbol
    return f"U+{ord(symbol):04X}" if category in {"Cc", "Cf", "Cn", "Co", "Zl", "Zp"} else symbol
