"""Texts that a command reads, with what the user is to know about them."""

import sys
from collections.abc import Sequence
from typing import BinaryIO

from charlstm.cli.terminal import print_diagnostic
from charlstm.runs import Run, encode_text, read_split
from charlstm.text import STDIN, Ids, name_characters


def standard_input(sources: Sequence[str]) -> BinaryIO | None:
    """The bytes of stdin, None if it is closed; a terminal is told that it is waited for, if the sources name it."""
    if sys.stdin is None:
        return None
    if STDIN in sources and sys.stdin.isatty():
        print_diagnostic("reading the text from standard input; end it with Ctrl-D on a new line")
    return sys.stdin.buffer


def text_of(run: Run, source: str) -> Ids:
    """The ids of a text of the user's, in the run's vocabulary."""
    encoded = encode_text(run, source, stdin=standard_input((source,)))
    if encoded.unknown_chars:
        done = "left out" if run.vocab.unknown == "skip" else "replaced"
        named = name_characters(encoded.unknown)
        print_diagnostic(f"{done} {encoded.unknown_chars:,} characters unknown to the vocabulary: {named}")
    return encoded.ids


def split_of(run: Run, split: str, *, trust_sources: bool) -> Ids:
    """The ids of a split of the run's own text."""
    return read_split(run, split, stdin=standard_input(run.settings.data.sources), trust_sources=trust_sources)
