"""Characters or bytes ↔ ids: build, save, load, and what an unknown character becomes.

V: vocabulary size. A *code* is a code point, or a byte's value in a byte vocabulary (`characters`).
"""

import json
import unicodedata
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from charlstm.errors import RunError, TextError
from charlstm.settings import DataSettings
from charlstm.text.characters import (
    BOUNDARY,
    Codes,
    NormalForm,
    code_points,
    decode_utf8,
    drop_byte_order_mark,
    name_characters,
    normalize_form,
    normalize_newlines,
)

Unit: TypeAlias = Literal["char", "byte"]
UnknownPolicy: TypeAlias = Literal["error", "skip", "replace"]
Newline: TypeAlias = Literal["keep", "normalize"]
Ids: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]

REPLACEMENT_CHARACTER = "\ufffd"  # what the unknown symbol looks like in decoded text
BOUNDARY_SHOWN = "\u2403"  # what the boundary symbol looks like in a table; it is never printed as text
HINT_CHARS = 50
NEWER_FIELDS: dict[str, Any] = {"normalize": "none", "has_boundary": False}  # that earlier files lack, and their values


@dataclass(frozen=True)
class Vocab:
    """The symbols a model knows, and how a text becomes their ids 0 … V − 1.

    `symbols` are the known characters by code point; a byte vocabulary has none to list, it is always all 256 values.
    `unknown` is about text met after training (a prompt, a text to evaluate): refuse, drop, or replace a character that
    is not among the symbols. In the training text itself a character that `min_count` left out is always the unknown
    symbol, whatever the policy; with "replace" so is one that is met once, unless all are. That symbol has the id after
    the known ones, and exists if a character was left out or the policy is "replace"; never for bytes.
    The vocabulary of a text of documents has one more symbol with the last id: the boundary, with which each document
    ends and before which it begins. No character is its own, and decoded text leaves it out.
    """

    unit: Unit
    newline: Newline
    unknown: UnknownPolicy
    has_unknown_symbol: bool
    symbols: tuple[str, ...]
    normalize: NormalForm = "none"
    has_boundary: bool = False

    @property
    def size(self) -> int:
        """V."""
        return self._known + self.has_unknown_symbol + self.has_boundary

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown symbol, or None where there is none."""
        return self._known if self.has_unknown_symbol else None

    @property
    def boundary_id(self) -> int | None:
        """The id of the boundary between documents, V − 1, or None where the text is one stream."""
        return self.size - 1 if self.has_boundary else None

    @property
    def _known(self) -> int:
        return 256 if self.unit == "byte" else len(self.symbols)

    @property
    def id_dtype(self) -> np.dtype[Any]:
        """The smallest of uint8, uint16 and uint32 that holds every id, little-endian as on disk."""
        return np.min_scalar_type(self.size - 1).newbyteorder("<")

    def encode_text(self, text: str | bytes, *, where: str) -> Ids:
        """The ids of a text; bytes are read as UTF-8 (or as they are, by a byte vocabulary).

        `where` names the text in a TextError, which invalid UTF-8, a lone surrogate and, by the policy, an unknown
        character raise.
        """
        return self.encode_codes(self._codes(text, where=where), where=where)

    def encode_codes(self, codes: Codes, *, where: str) -> Ids:
        """The ids of codes whose line ends and form are normalized; raises TextError where the policy refuses."""
        ids = self.lookup(codes)
        known = ids >= 0
        if not known.all():
            if self.unknown == "error":
                raise TextError(
                    f"unknown to the vocabulary in {where}: {name_characters(_characters(codes[~known]))}"
                    f"{self.form_hint(codes)}; leave them out, or train with data.unknown set to skip or replace"
                )
            if self.unknown == "skip":
                ids = ids[known]
            else:
                ids[~known] = self._known
        return ids.astype(self.id_dtype)

    def unknown_characters(self, text: str | bytes, *, where: str = "the text") -> list[str]:
        """The distinct characters of a text that are not in the vocabulary, by code point."""
        codes = self._codes(text, where=where)
        return _characters(codes[self.lookup(codes) < 0])

    def form_hint(self, codes: Codes) -> str:
        """A part of a sentence if more of the characters are known in another of Unicode's normal forms, else "".

        Only the first unknown character and a few after it are looked at: many marks in a row are slow to put in order.
        """
        first = int((self.lookup(codes) < 0).argmax())
        codes = codes[max(0, first - 1) : first + HINT_CHARS]
        text = codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")  # BOUNDARY may be among them

        def unknown(form: Any) -> int:
            return int((self.lookup(code_points(unicodedata.normalize(form, text))) < 0).sum())

        best = min(("NFC", "NFD", "NFKC", "NFKD"), key=unknown)
        if self.unit == "byte" or unknown(best) >= (self.lookup(codes) < 0).sum():
            return ""
        return f", which it knows in another form: put the text into Unicode's {best}, or train with data.normalize"

    def lookup(self, codes: Codes) -> npt.NDArray[np.int32]:
        """The id of each code, −1 where it has none. The boundary's code is that of BOUNDARY."""
        if self.unit == "byte" and not self.has_boundary:
            return codes.astype(np.int32)
        return self._id_of_code.take(codes, mode="clip")  # the table's last entry is −1

    def to_bytes(self, ids: npt.ArrayLike) -> bytes:
        """The text of ids as it goes to a file or pipe: UTF-8, or the bytes themselves; U+FFFD for the unknown.

        The boundary is left out.
        """
        symbol_ids = np.asarray(ids, dtype=np.intp)
        if self.has_boundary:
            symbol_ids = symbol_ids[symbol_ids != self.boundary_id]
        codes: npt.NDArray[np.uint32] = self._code_of_id[symbol_ids]
        encoding = "latin-1" if self.unit == "byte" else "utf-8"
        return codes.tobytes().decode("utf-32-le").encode(encoding)

    def symbol(self, symbol_id: int) -> str:
        """One symbol as a table shows it: the character, U+FFFD for the unknown, a byte as 'a' or '\\xff', ␃."""
        if symbol_id == self.boundary_id:
            return BOUNDARY_SHOWN
        code = int(self._code_of_id[symbol_id])
        if self.unit == "byte" and not 0x20 <= code < 0x7F:
            return f"\\x{code:02x}"
        return chr(code)

    def to_json(self) -> str:
        """One JSON object with the fields; `from_json` gives back an equal vocabulary."""
        fields = asdict(self)
        for name, default in NEWER_FIELDS.items():
            if fields[name] == default:  # so that the bytes are those of earlier versions, whose checksums are recorded
                del fields[name]
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str) -> "Vocab":
        """The vocabulary that `to_json` wrote; anything else raises RunError, which names `where`."""
        try:
            vocab = cls(**_checked_fields(json.loads(text, object_pairs_hook=_object_once)))
        except (ValueError, RecursionError) as error:
            raise RunError(f"{where} is not a vocabulary: {error}; restore the file or train again") from None
        return vocab

    def _codes(self, text: str | bytes, *, where: str) -> Codes:
        if isinstance(text, str):
            try:
                raw = text.encode()
            except UnicodeEncodeError as error:
                code = ord(text[error.start])
                raise TextError(
                    f"{where} holds the lone surrogate U+{code:04X} at character {error.start + 1}, "
                    "which stands for no character; give valid UTF-8"
                ) from None
        else:
            raw = text
        if self.unit == "byte":
            text = raw.decode("latin-1")
        elif isinstance(text, bytes):
            body = drop_byte_order_mark(text, where=where)
            text, _ = decode_utf8(body, final=True, where=where, offset=len(text) - len(body), line=1)
        text = normalize_newlines(text) if self.newline == "normalize" else text
        return code_points(normalize_form(text, self.normalize))

    @cached_property
    def _code_of_id(self) -> npt.NDArray[np.uint32]:
        if self.unit == "byte":
            return np.arange(256, dtype="<u4")
        shown = "".join(self.symbols) + REPLACEMENT_CHARACTER * self.has_unknown_symbol
        return np.frombuffer(shown.encode("utf-32-le"), dtype="<u4")

    @cached_property
    def _id_of_code(self) -> npt.NDArray[np.int32]:
        codes = self._code_of_id[: self._known]
        last = max(int(codes[-1]), ord(BOUNDARY) if self.has_boundary else 0)
        table = np.full(last + 2, -1, dtype=np.int32)
        table[codes] = np.arange(len(codes))
        if self.boundary_id is not None:
            table[ord(BOUNDARY)] = self.boundary_id
        return table


def build_vocab(counts: npt.NDArray[np.int64], data: DataSettings) -> Vocab:
    """The vocabulary of a text from `counts[code]`; raises TextError if `min_count` leaves no character."""
    if data.unit == "byte":
        return Vocab(data.unit, data.newline, data.unknown, has_unknown_symbol=False, symbols=())
    seen = np.flatnonzero(counts)
    kept = seen[counts[seen] >= data.min_count]
    if data.unknown == "replace" and data.min_count == 1 and counts[seen].max(initial=0) > 1:
        kept = seen[counts[seen] > 1]  # by which the unknown symbol learns how likely a new character is (Good 1953)
    if not len(kept):
        raise TextError(
            f"no character occurs data.min_count = {data.min_count} times, the most frequent one occurs "
            f"{counts.max(initial=0)} times; lower data.min_count or give more text"
        )
    needs_unknown = len(kept) < len(seen) or data.unknown == "replace"
    symbols = tuple(map(chr, kept.tolist()))
    return Vocab(data.unit, data.newline, data.unknown, needs_unknown, symbols, data.normalize)


def shared_ids(vocab: Vocab, other: Vocab) -> tuple[list[int], list[int]]:
    """The ids in `vocab` and in `other` of the symbols that both have, matched by character, never by number.

    Raises RunError if one is of characters and the other of bytes.
    """
    if vocab.unit != other.unit:
        raise RunError(
            f"one vocabulary is of {vocab.unit}s and the other of {other.unit}s, which cannot be matched: "
            "set data.unit to that of the other run"
        )
    if vocab.unit == "byte":
        shared = list(range(min(vocab.size, other.size)))
        return shared, shared
    numbers = {symbol: number for number, symbol in enumerate(other.symbols)}
    pairs = [(number, numbers[symbol]) for number, symbol in enumerate(vocab.symbols) if symbol in numbers]
    for own, theirs in ((vocab.unknown_id, other.unknown_id), (vocab.boundary_id, other.boundary_id)):
        if own is not None and theirs is not None:
            pairs.append((own, theirs))
    return [own for own, _ in pairs], [theirs for _, theirs in pairs]


def _characters(codes: Codes) -> list[str]:
    """The distinct characters of codes, by code point."""
    return list(map(chr, sorted(set(codes.tolist()))))  # np.unique would load all of numpy.ma, 8 ms


def _object_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key stands twice")
    return fields


def _checked_fields(fields: Any) -> dict[str, Any]:
    """The arguments of a Vocab from parsed JSON; raises ValueError, which says what is wrong, for any other value."""
    choices = {"unit": Unit, "newline": Newline, "unknown": UnknownPolicy, "normalize": NormalForm}
    flags = ("has_unknown_symbol", "has_boundary")
    if isinstance(fields, dict):
        fields = {**NEWER_FIELDS, **fields}
    if not isinstance(fields, dict) or set(fields) != {*choices, *flags, "symbols"}:
        raise ValueError(f"an object with {', '.join(choices)}, has_unknown_symbol and symbols was expected")
    for name, choice in choices.items():
        if fields[name] not in get_args(choice):
            raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}")
    for name in flags:
        if not isinstance(fields[name], bool):
            raise ValueError(f"{name} must be true or false")
    symbols = fields["symbols"]
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) and len(symbol) == 1 for symbol in symbols):
        raise ValueError("symbols must be a list of single characters")
    if fields["unit"] == "byte":
        if symbols or fields["has_unknown_symbol"]:
            raise ValueError("a byte vocabulary has no symbols to list, nor an unknown one")
    elif not symbols:
        raise ValueError("there are no symbols")
    elif any(left >= right for left, right in pairwise(symbols)):
        raise ValueError("symbols must be in the order of their code points, each once")
    elif any("\ud800" <= symbol <= "\udfff" for symbol in symbols):
        raise ValueError("a lone surrogate stands for no character")
    elif fields["unknown"] == "replace" and not fields["has_unknown_symbol"]:
        raise ValueError("the policy replace needs the unknown symbol")
    return {**fields, "symbols": tuple(symbols)}
