"""Characters: their code points, line ends and normal forms, UTF-8 into them, and how a sentence names them."""

import codecs
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from charlstm.errors import TextError

NormalForm: TypeAlias = Literal["none", "nfc", "nfkc"]
Codes: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]

CODE_POINTS = 0x110000
BOUNDARY = "\udc00"  # between two documents in text: a lone surrogate, which no decoded text holds
MOST_MARKS = 10_000  # that are looked at in search of a character to which they belong
NAMED_AT_MOST = 5


def code_points(text: str) -> Codes:
    """The code of each character, as uint8 where all are below 256, else uint32.

    Lone surrogates have codes of their own: BOUNDARY, and the bytes that are no UTF-8 (surrogateescape).
    """
    try:
        return np.frombuffer(text.encode("latin-1"), dtype=np.uint8)
    except UnicodeEncodeError:
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def normalize_newlines(text: str) -> str:
    r"""The text with \r\n and \r as \n."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def normalize_form(text: str, form: NormalForm) -> str:
    """The text in one of Unicode's normal forms (UAX 15)."""
    return text if form == "none" else unicodedata.normalize("NFC" if form == "nfc" else "NFKC", text)


def stable_prefix(text: str) -> int:
    """How much of a text can be put into a normal form before more of it is known: all before its last safe character.

    A character is safe if nothing before it can be joined with it: if it decomposes to no mark and no Hangul vowel or
    final consonant in the first place. Beyond MOST_MARKS without one, all.
    """
    for place in range(len(text) - 1, max(0, len(text) - MOST_MARKS) - 1, -1):
        first = unicodedata.normalize("NFKD", text[place])[0]
        if not unicodedata.category(first).startswith("M") and not "\u1160" <= first <= "\u11ff":
            return place
    return len(text) if len(text) > MOST_MARKS else 0


def drop_byte_order_mark(head: bytes, *, where: str) -> bytes:
    """The beginning of a text (4 bytes or more, or all of it) without its mark; raises TextError if it is not UTF-8."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        wide = head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE))
        encoding = "UTF-32" if wide else "UTF-16"
        raise TextError(
            f"{where} is {encoding} (by its byte-order mark), not UTF-8; convert it with: iconv -f {encoding} -t UTF-8"
        )
    return head.removeprefix(codecs.BOM_UTF8)


def decode_utf8(data: bytes, *, final: bool, where: str, offset: int, line: int) -> tuple[str, int]:
    """The text of `data` and how many of its bytes that took: not those of an unfinished character, unless `final`.

    `offset` (from 0) and `line` (from 1) are where `data` begins; invalid UTF-8 raises TextError naming both.
    """
    try:
        return codecs.utf_8_decode(data, "strict", final)
    except UnicodeDecodeError as error:
        newlines = data.count(b"\n", 0, error.start)
        raise TextError(
            f"{where} is not valid UTF-8 at byte offset {offset + error.start}, "
            f"line {line + newlines} (0x{data[error.start]:02x}); "
            "convert it to UTF-8, or set data.unit to byte"
        ) from None


def name_characters(characters: Sequence[str]) -> str:
    """A few characters as a sentence names them: "'é' (U+00E9), 'ß' (U+00DF) and 3 more"."""
    named = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in characters[:NAMED_AT_MOST])
    more = len(characters) - NAMED_AT_MOST
    return f"{named} and {more} more" if more > 0 else named
