"""Texts as ids, for the commands that read them: that of a run's settings, a part of it, or one that the user names."""

import sys
from typing import BinaryIO

from charlstm import environment
from charlstm.cli.terminal import say
from charlstm.errors import RunError, TextError
from charlstm.runs.folder import Run
from charlstm.settings import DataSettings
from charlstm.text.corpus import Corpus, encode_source, open_corpus, prepare_corpus, split_ids
from charlstm.text.sources import STDIN
from charlstm.text.vocabulary import Ids, name_characters


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


def text_ids(text: str, run: Run) -> Ids:
    """The ids of a text of the user's, in the run's vocabulary."""
    encoded = encode_source(
        run.vocab,
        text,
        cache_folder=environment.cache_folder(),
        data_folder=environment.data_folder(),
        stdin=standard_input((text,)),
    )
    if encoded.unknown_chars:
        done = "left out" if run.vocab.unknown == "skip" else "replaced"
        say(
            f"{done} {encoded.unknown_chars:,} characters unknown to the vocabulary: {name_characters(encoded.unknown)}"
        )
    return encoded.ids


def split_ids_of_run(run: Run, split: str, progress: dict[str, object]) -> Ids:
    """The ids of a part of the text that the run was trained on: from the cache, else from its sources."""
    fingerprint = str(progress.get("text_sha256"))
    corpus = open_corpus(fingerprint, environment.cache_folder()) or prepare_run_corpus(run.settings.data)
    if corpus.fingerprint != fingerprint:
        raise RunError(f"the text that {run.folder} was trained on has changed: name a text to evaluate instead")
    ids: Ids = getattr(split_ids(corpus.ids, run.settings.data.split), split)
    if len(ids) < 2:
        shares = ", ".join(f"{share:g}" for share in run.settings.data.split)
        raise TextError(
            f"the run's text has no {split} split (data.split is [{shares}]): choose another, or name a text"
        )
    return ids
