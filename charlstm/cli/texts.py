"""Texts that a command reads, with what the user is to know about them."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from io import FileIO
from typing import BinaryIO

from charlstm.cli.terminal import is_typed, print_diagnostic
from charlstm.cli.waiting import working
from charlstm.runs import Run, encode_text, read_split
from charlstm.text import EncodedText, Ids, name_characters


def standard_input(sources: Sequence[str]) -> BinaryIO | None:
    """The bytes of stdin, None if it is closed."""
    if any(map(is_typed, sources)):
        return TypedText()
    return sys.stdin.buffer if sys.stdin is not None else None


class TypedText(FileIO):
    """What is typed at the terminal, which is told that it is waited for when it is first read, if it ever is."""

    def __init__(self) -> None:
        super().__init__(sys.stdin.fileno(), closefd=False)
        self._is_told = False

    def read(self, size: int | None = -1, /) -> bytes:
        """At most so many bytes: a line, or nothing after Ctrl-D on a new one."""
        if not self._is_told:
            print_diagnostic("reading the text from standard input; end it with Ctrl-D on a new line")
            self._is_told = True
        return super().read(size)


def reading(sources: Sequence[str], what: str = "reading the text") -> AbstractContextManager[None]:
    """Show that the sources are being read, but not to whoever is typing one."""
    return nullcontext() if any(map(is_typed, sources)) else working(what)


def text_of(run: Run, source: str) -> EncodedText:
    """A text of the user's in the run's vocabulary."""
    stdin = standard_input((source,))
    with reading((source,)):
        encoded = encode_text(run, source, stdin=stdin)
    if encoded.unknown_chars:
        done = "left out" if run.vocab.unknown == "skip" else "replaced"
        named = name_characters(encoded.unknown)
        print_diagnostic(f"{done} {encoded.unknown_chars:,} characters unknown to the vocabulary: {named}")
    return encoded


def split_of(run: Run, split: str, *, trust_sources: bool) -> Ids:
    """The ids of a split of the run's own text."""
    sources = run.settings.data.sources
    stdin = standard_input(sources)
    with reading(sources):
        return read_split(run, split, stdin=stdin, trust_sources=trust_sources)
