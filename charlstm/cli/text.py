"""The text that a run's settings name, as ids; for the commands that read it."""

import sys
from typing import BinaryIO

from charlstm import environment
from charlstm.cli.terminal import say
from charlstm.config import DataSettings
from charlstm.corpus import Corpus, prepare_corpus
from charlstm.sources import STDIN


def prepare_run_corpus(data: DataSettings) -> Corpus:
    """Read, encode and cache the sources of the settings, with this machine's folders and stdin."""
    return prepare_corpus(
        data.sources,
        unit=data.unit,
        min_count=data.min_count,
        unknown=data.unknown,
        newline=data.newline,
        cache_folder=environment.cache_folder(),
        data_folder=environment.data_folder(),
        stdin=standard_input(data.sources),
    )


def standard_input(sources: tuple[str, ...]) -> BinaryIO | None:
    """The bytes of stdin, None if it is closed; a terminal is told that it is waited for, if the sources name it."""
    if sys.stdin is None:
        return None
    if STDIN in sources and sys.stdin.isatty():
        say("reading the text from standard input; end it with Ctrl-D on a new line")
    return sys.stdin.buffer
