"""Texts in a run's vocabulary: a split of the one it was trained on, or any other."""

from typing import BinaryIO

from charlstm.environment import cache_folder, data_folder
from charlstm.errors import RunError, TextError
from charlstm.runs.folder import Run
from charlstm.text import EncodedText, Ids, encode_source, open_corpus, read_corpus, split_ids


def read_split(run: Run, split: str, *, stdin: BinaryIO | None = None) -> Ids:
    """The ids of the "train", "val" or "test" split of the run's text: from the cache, else from its sources.

    Raises RunError if the text is not known or has changed, TextError if it has no such split.
    """
    if run.text is None:
        raise RunError(f"{run.folder} is of an earlier version, which did not record its text: name a text instead")
    fingerprint = run.text.fingerprint
    corpus = open_corpus(fingerprint, cache_folder()) or read_corpus(run.settings.data, stdin=stdin)
    if corpus.fingerprint != fingerprint:
        raise RunError(f"the text that {run.folder} was trained on has changed: name a text instead")
    ids: Ids = getattr(split_ids(corpus.ids, run.settings.data.split), split)
    if len(ids) < 2:
        fractions = ", ".join(f"{fraction:g}" for fraction in run.settings.data.split)
        raise TextError(
            f"the run's text has no {split} split (data.split is [{fractions}]): choose another, or name a text"
        )
    return ids


def encode_text(run: Run, source: str, *, stdin: BinaryIO | None = None) -> EncodedText:
    """A text from a source, in the run's vocabulary. Raises TextError as `text.encode_source` does."""
    return encode_source(run.vocab, source, cache_folder=cache_folder(), data_folder=data_folder(), stdin=stdin)
