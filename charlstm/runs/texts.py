"""Texts in a run's vocabulary: a split of the one it was trained on, or any other."""

from hashlib import sha256
from typing import BinaryIO

import numpy as np

from charlstm.environment import cache_folder, data_folder
from charlstm.errors import RunError, SettingsError, TextError
from charlstm.files import disk_errors
from charlstm.runs.folder import Run
from charlstm.settings import plain
from charlstm.text import (
    NAMED_CORPORA,
    STDIN,
    Corpus,
    Cut,
    EncodedText,
    Ids,
    KnownDocuments,
    Splits,
    encode_source,
    end_id,
    is_stream,
    open_corpus,
    open_known,
    read_corpus,
    split_corpus,
    write_known,
)


def own_corpus(run: Run, *, stdin: BinaryIO | None = None, reread: bool = False, trust_sources: bool = False) -> Corpus:
    """The text that the run was trained on: as it was encoded then, from the cache, else from its sources.

    reread: read the sources in any case, unless one is a stream. trust_sources: read the sources of a run of
    which the cache knows nothing. Whoever made such a run decided what they name, so otherwise they are not touched.
    Raises RunError if it is not known which text that was, if it may not be read, or if it has changed.
    """
    if run.text is None:
        raise RunError(
            f"{run.folder} is of an earlier version, which did not record its text: name a text, "
            "or begin a new run from its weights with --init-from"
        )
    fingerprint = run.text.fingerprint
    corpus, sources = open_corpus(fingerprint, cache_folder()), run.settings.data.sources
    harmless = {*NAMED_CORPORA, *([STDIN] if reread else [])}  # whoever goes on with a run pipes its text in again
    if corpus is None and not trust_sources and not set(sources) <= harmless:
        raise RunError(
            f"{run.folder} was trained elsewhere or long ago: its text is not in this user's cache, and what its "
            f"settings name as sources ({', '.join(map(plain, sources))}) is only read with --trust-sources; "
            "give that, or name a text"
        )
    if corpus is None or (reread and not any(map(is_stream, sources))):
        corpus = read_corpus(run.settings.data, stdin=stdin)
    if corpus.fingerprint != fingerprint or corpus.vocab != run.vocab:
        raise RunError(
            f"the text of {run.folder} has changed since it was trained: restore it, name a text, or start a new run"
        )
    return corpus


def read_split(run: Run, split: str, *, stdin: BinaryIO | None = None, trust_sources: bool = False) -> Ids:
    """The ids of the "train", "val" or "test" split of the run's text, of documents each with its end.

    Raises as `own_corpus`, SettingsError for any other split, TextError for one of fewer than two ids.
    """
    if split not in Splits._fields:
        raise SettingsError(f"split is {split!r}, but must be one of {', '.join(Splits._fields)}")
    corpus = own_corpus(run, stdin=stdin, trust_sources=trust_sources)
    parts, _ = split_corpus(corpus, run.settings.data, seed=run.settings.training.seed)
    ids: Ids = getattr(parts, split)
    if len(ids) < 2:
        fractions = ", ".join(f"{fraction:g}" for fraction in run.settings.data.split)
        raise TextError(
            f"the run's text has no {split} split of two characters or more (data.split is "
            f"[{fractions}]): choose another, or name a text"
        )
    return ids


def known_documents(run: Run, *, trust_sources: bool = False) -> KnownDocuments:
    """The documents, or lines, of the run's text, all its splits; read once, then kept in the cache.

    Raises as `own_corpus`, and RunError for a text without an end symbol.
    """
    end = end_id(run.vocab)
    if end is None:
        raise RunError(f"{run.folder} was trained on a text without documents or lines, so none of them are known")
    text = run.text.fingerprint if run.text is not None else ""  # of which `own_corpus` knows nothing
    path = cache_folder() / f"{sha256(f'known 1 {text}'.encode()).hexdigest()}.known"
    if (known := open_known(path)) is None:
        corpus = own_corpus(run, trust_sources=trust_sources)
        with disk_errors(f"to the cache {str(cache_folder())!r}"):
            known = write_known(path, corpus.ids, end)
    return known


def encode_text(run: Run, source: str, *, stdin: BinaryIO | None = None) -> EncodedText:
    """A text from a source in the run's vocabulary, cut as its own. Raises TextError as `text.encode_source` does."""
    cut, folder = Cut.of(run.settings.data), cache_folder()
    return encode_source(run.vocab, source, cache_folder=folder, data_folder=data_folder(), stdin=stdin, cut=cut)


def read_lines(run: Run, split: str, most: int, *, trust_sources: bool = False) -> list[bytes]:
    """At most so many documents of a split, spread over it; of a stream its lines, but for those that the cut halved.

    Raises as `read_split`, and TextError for a text without line ends.
    """
    ids, end = read_split(run, split, trust_sources=trust_sources), end_id(run.vocab)
    ends = np.flatnonzero(ids == end) if end is not None else np.zeros(0, np.intp)
    first = 0 if run.vocab.has_boundary else 1
    count = len(ends) - first
    if count < 1:
        raise TextError(f"the {split} split of {run.folder} holds no whole line: name a file of lines")
    chosen = first + np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.intp))
    return [run.vocab.to_bytes(ids[(ends[one - 1] + 1 if one else 0) : ends[one]]) for one in chosen]
