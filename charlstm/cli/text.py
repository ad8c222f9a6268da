"""The text that a run's settings name, as ids; for the commands that read it."""

import sys

from charlstm import environment
from charlstm.config import DataSettings
from charlstm.corpus import Corpus, prepare_corpus


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
        stdin=sys.stdin.buffer if sys.stdin else None,
    )
