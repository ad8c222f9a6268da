"""What `charlstm score` makes of a line's nats, and how it writes the line."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from charlstm.cli.terminal import printable, text_writer, write

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from charlstm.inference import GuessRanks, LineScores
    from charlstm.text import Line, Record, RecordFormat, Vocab

UNLIKELY, HARDLY = math.log(100), math.log(10_000)  # nats from which a character is underlined, and bold as well
LINE_END = "⏎"  # stands for an unlikely end


class Unit(StrEnum):
    """The logarithm of a score."""

    bits = "bits"
    nats = "nats"


class Normalize(StrEnum):
    """What a score is divided by."""

    char = "char"
    none = "none"


class ScoredLine(NamedTuple):
    """A record with its figures."""

    record: "Record"
    score: float
    nats: float
    chars: int
    unknown: int
    symbols: "NDArray[Any] | None"  # nats of each character and of the end; None of a long line
    nats_against: float | None
    rank: float | None
    rank_error: float | None


def is_empty_line(text: "Line") -> bool:
    """Whether a line has no character, and so is no document."""
    return text in (b"", b"\r")  # whose line ends with \r\n


class Scale(NamedTuple):
    """How a score comes from nats."""

    unit: Unit
    normalize: Normalize
    symbol: str  # what is counted: char or byte

    @property
    def name(self) -> str:
        """As in "bits per character"."""
        of = {"char": "character", "byte": "byte"}[self.symbol]
        return f"{self.unit} per {of}" if self.normalize is Normalize.char else f"{self.unit} per line"

    def of(self, nats: "NDArray[Any]", chars: "NDArray[Any]") -> "NDArray[Any]":
        """The scores of lines."""
        import numpy as np

        sums = self.unit_of(nats)
        return sums / np.maximum(chars, 1) if self.normalize is Normalize.char else sums

    def unit_of(self, nats: "NDArray[Any]") -> "NDArray[Any]":
        """Nats in the unit of the score."""
        return nats / math.log(2) if self.unit is Unit.bits else nats

    def scored(
        self,
        records: Sequence["Record"],
        found: "LineScores",
        against: "LineScores | None",
        ranks: "GuessRanks | None",
    ) -> Iterator[ScoredLine]:
        """Each record with its figures."""
        nothing: list[None] = [None] * len(records)
        estimated = ranks.estimate(found.nats) if ranks is not None else None
        if estimated is not None:
            scores = estimated[0]
        else:
            scores = self.of(found.nats if against is None else against.nats - found.nats, found.chars)
        figures = (scores, found.nats, found.chars, found.unknown)
        more = (nothing if against is None else against.nats.tolist(), *(estimated or (nothing, nothing)))
        columns = zip(records, *(figure.tolist() for figure in figures), found.by_line(), *more, strict=True)
        return map(ScoredLine._make, columns)


def open_writer(
    form: "RecordFormat", vocab: "Vocab", scale: Scale, *, name: str, as_json: bool, chars: bool, marks: bool, raw: bool
) -> Callable[[Iterable[ScoredLine]], None]:
    """The function that writes scored lines to stdout, all that it is given at once."""
    put = text_writer(raw=raw)
    begun = False

    def write_lines(lines: Iterable[ScoredLine]) -> None:
        nonlocal begun
        pieces = [] if begun else [form.header()]
        begun = True
        for line in lines:
            if as_json:
                pieces.append(_json_line(line, scale, vocab, chars=chars))
            elif not isinstance(line.record.raw, bytes):
                put(b"".join(pieces) + f"{line.score:.4f}\t".encode())
                pieces = []
                for chunk in line.record.raw.chunks():
                    put(chunk)
                put(b"\n")
            elif marks and line.symbols is not None:
                write(f"{line.score:.4f}\t{_marked(line.record.raw, line.symbols, vocab)}\n".encode())
            else:
                pieces.append(form.with_values(line.record, {name: line.score}))
        if pieces:
            put(b"".join(pieces))

    return write_lines


def _json_line(line: ScoredLine, scale: Scale, vocab: "Vocab", *, chars: bool) -> bytes:
    """A row of --json."""
    from charlstm.text import whole_line

    text = whole_line(line.record.text).decode("utf-8", "replace")
    bits, per = line.nats / math.log(2), max(line.chars, 1)
    fields: dict[str, Any] = {"line": line.record.number, "text": text, "score": line.score}
    fields |= {"nats": line.nats, "bits": bits, f"{vocab.unit}s": line.chars, f"bits_per_{vocab.unit}": bits / per}
    fields["unknown"] = line.unknown
    if line.nats_against is not None:
        fields["nats_against"] = line.nats_against
    if line.rank is not None:
        fields |= {"rank": line.rank, "rank_error": line.rank_error}
    if chars:
        costs = None if line.symbols is None else scale.unit_of(line.symbols).round(4).tolist()
        fields["surprisals"] = costs if costs is None else [round(cost, 4) for cost in costs]
    rounded = {key: _finite(value) if isinstance(value, float) else value for key, value in fields.items()}
    return json.dumps(rounded, ensure_ascii=False).encode() + b"\n"


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _marked(line: bytes, nats: "NDArray[Any]", vocab: "Vocab") -> str:
    """A line as a terminal shows it, its unlikely characters underlined, and those that hardly happen bold as well."""
    from charlstm.inference import decode_line

    text = decode_line(vocab, line)
    pieces, last = [], ""
    end = LINE_END if len(nats) > len(text) and nats[-1] >= UNLIKELY else ""
    for character, cost in zip(text + end, nats.tolist(), strict=False):
        style = "" if cost < UNLIKELY else "\033[4m" if cost < HARDLY else "\033[1;4m"
        if style != last:
            pieces.append("\033[0m" * bool(last) + style)
            last = style
        pieces.append(printable(character, keep="\t"))
    return "".join(pieces) + "\033[0m" * bool(last)
