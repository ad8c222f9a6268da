"""Texts that a command reads, with what the user is to know about them."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO

from charlstm.cli.terminal import print_diagnostic
from charlstm.cli.waiting import working
from charlstm.runs import Run, encode_text, read_split
from charlstm.text import STDIN, EncodedText, Ids, name_characters


def is_typed(sources: Sequence[str]) -> bool:
    """Whether one of the sources is standard input, and that a terminal."""
    return STDIN in sources and sys.stdin is not None and sys.stdin.isatty()


def standard_input(sources: Sequence[str]) -> BinaryIO | None:
    """The bytes of stdin, None if it is closed; a terminal is told that it is waited for, if the sources name it."""
    if is_typed(sources):
        print_diagnostic("reading the text from standard input; end it with Ctrl-D on a new line")
    return sys.stdin.buffer if sys.stdin is not None else None


def reading(sources: Sequence[str], what: str = "reading the text") -> AbstractContextManager[None]:
    """Show that the sources are being read, but not to whoever is typing one."""
    return nullcontext() if is_typed(sources) else working(what)


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
