"""Texts in a run's vocabulary: a split of the one it was trained on, or any other."""

from typing import BinaryIO

from charlstm.environment import cache_folder, data_folder
from charlstm.errors import RunError, TextError
from charlstm.runs.folder import Run
from charlstm.text import Corpus, EncodedText, Ids, encode_source, open_corpus, read_corpus, split_ids


def own_corpus(run: Run, *, stdin: BinaryIO | None = None, from_cache: bool = True) -> Corpus:
    """The text that the run was trained on: from the cache, where it may be looked for there, else from its sources.

    Raises RunError if it is not known which text that was, or if it has changed.
    """
    if run.text is None:
        raise RunError(
            f"{run.folder} is of an earlier version, which did not record its text: name a text, "
            "or begin a new run from its weights with --init-from"
        )
    fingerprint = run.text.fingerprint
    cached = open_corpus(fingerprint, cache_folder()) if from_cache else None
    corpus = cached or read_corpus(run.settings.data, stdin=stdin)
    if corpus.fingerprint != fingerprint:
        raise RunError(
            f"the text of {run.folder} has changed since it was trained: restore it, name a text, or start a new run"
        )
    return corpus


def read_split(run: Run, split: str, *, stdin: BinaryIO | None = None) -> Ids:
    """The ids of the "train", "val" or "test" split of the run's text. Raises as `own_corpus`, TextError if empty."""
    ids: Ids = getattr(split_ids(own_corpus(run, stdin=stdin).ids, run.settings.data.split), split)
    if len(ids) < 2:
        fractions = ", ".join(f"{fraction:g}" for fraction in run.settings.data.split)
        raise TextError(
            f"the run's text has no {split} split (data.split is [{fractions}]): choose another, or name a text"
        )
    return ids


def encode_text(run: Run, source: str, *, stdin: BinaryIO | None = None) -> EncodedText:
    """A text from a source, in the run's vocabulary. Raises TextError as `text.encode_source` does."""
    return encode_source(run.vocab, source, cache_folder=cache_folder(), data_folder=data_folder(), stdin=stdin)
