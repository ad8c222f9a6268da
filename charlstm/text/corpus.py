"""Sources → ids on disk, memory-mapped: encoded once, kept by content and settings."""

import functools
import json
import operator
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from charlstm.environment import cache_folder, data_folder
from charlstm.errors import RunError, TextError
from charlstm.files import atomic_file, disk_errors, remove_abandoned, write_file
from charlstm.settings import DataSettings
from charlstm.text.characters import BOUNDARY, CODE_POINTS, code_points
from charlstm.text.cutting import STREAM, Cut
from charlstm.text.decoding import Digest, read_text
from charlstm.text.sources import STDIN, open_sources
from charlstm.text.stored_ids import map_ids, open_own
from charlstm.text.text_files import TextFile
from charlstm.text.vocabulary import Ids, Vocab, build_vocab

MAX_RECORD_BYTES = 100_000_000  # of what the cache keeps beside the ids, mostly a vocabulary
ENCODINGS = 3  # attempts, where another machine removes files that it takes for abandoned


@dataclass(frozen=True)
class Corpus:
    """A whole text as ids; `fingerprint` is a sha256 of the content and of every setting that decides the ids."""

    vocab: Vocab
    ids: Ids
    fingerprint: str
    sources: tuple[str, ...]

    @property
    def chars(self) -> int:
        """The number of ids: characters, or bytes in a byte vocabulary."""
        return len(self.ids)


class EncodedText(NamedTuple):
    """A text in an existing vocabulary's ids, and the characters that its policy dropped or replaced."""

    ids: Ids
    unknown_chars: int
    unknown: tuple[str, ...]


def read_corpus(data: DataSettings, *, stdin: BinaryIO | None) -> Corpus:
    """The corpus of a run's settings, with the cache and the well-known corpora where this machine has them."""
    return prepare_corpus(data, cache_folder=cache_folder(), data_folder=data_folder(), stdin=stdin)


def prepare_corpus(
    data: DataSettings, *, cache_folder: Path, data_folder: Path | None, stdin: BinaryIO | None
) -> Corpus:
    """The corpus of the sources (see `open_sources`), joined as `cat` does, with a vocabulary from the whole of it.

    The text is read once to count and fingerprint it and, unless the cache has its ids, once more to encode it; memory
    stays bounded. Raises TextError for a text that is missing, unreadable, not UTF-8, empty, or changed between the two
    readings, and InputOutputError if the cache cannot be written.
    """
    _prepare_cache(cache_folder)
    sources = data.sources
    form = "" if data.normalize == "none" else f" {data.normalize}"  # without it the key is that of earlier versions
    cut = Cut.of(data)
    how = f"charlstm ids 1 {data.unit} {data.min_count} {data.unknown} {data.newline}{form}{cut.key}\n".encode()
    with open_sources(sources, cache_folder=cache_folder, data_folder=data_folder, stdin=stdin) as files:
        mode = _mode_of(files)
        digest = sha256(how)
        counts = _count_codes(read_text(files, data, digest, cut))
        counts[ord(BOUNDARY)] = 0
        if not counts.any():
            raise TextError(f"the text is empty ({_listed(sources)}); give one with characters in it")
        fingerprint = digest.hexdigest()
        if (cached := open_corpus(fingerprint, cache_folder)) is not None:
            return replace(cached, sources=sources)
        vocab = replace(build_vocab(counts, data), has_boundary=cut.kind != "stream")
        for attempt in range(ENCODINGS):
            again = sha256(how)
            with cache_errors(cache_folder):
                try:
                    with atomic_file(cache_folder / f"{fingerprint}.ids", mode=mode) as file:
                        checksum = _write_training_ids(file, read_text(files, data, again, cut), vocab)
                        if again.hexdigest() != fingerprint:
                            raise TextError(
                                f"the text changed while it was being read ({_listed(sources)}); "
                                "wait until nothing writes to it, or pipe it in through -"
                            )
                        file.flush()
                        ids = map_ids(file, vocab.id_dtype)
                    break
                except FileNotFoundError:  # another machine, whose locks are not ours, took it for abandoned
                    if attempt == ENCODINGS - 1:
                        raise
        record = {"sources": list(sources), "vocab": vocab.to_json(), "fingerprint": fingerprint}
        with cache_errors(cache_folder):
            entry = {**record, "checksum": _checksum_of(checksum, record)}
            write_file(cache_folder / f"{fingerprint}.json", json.dumps(entry).encode(), mode=mode)
    return Corpus(vocab=vocab, ids=ids, fingerprint=fingerprint, sources=sources)


def open_corpus(fingerprint: str, cache_folder: Path) -> Corpus | None:
    """The corpus of an earlier `prepare_corpus`, without its sources; None if the cache lacks it or it is damaged."""
    if not re.fullmatch("[0-9a-f]{64}", fingerprint):
        return None
    path = cache_folder / f"{fingerprint}.ids"
    try:
        with open_own(path.with_suffix(".json")) as file:
            record = json.loads(file.read(MAX_RECORD_BYTES))
        with open_own(path) as file:
            if (
                record.pop("checksum") != _checksum_of(file_digest(file, "sha256"), record)
                or record["fingerprint"] != fingerprint
            ):
                return None
            vocab = Vocab.from_json(record["vocab"], where="the cache")
            ids = map_ids(file, vocab.id_dtype)
        return Corpus(vocab=vocab, ids=ids, fingerprint=fingerprint, sources=tuple(record["sources"]))
    except (OSError, RunError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def encode_source(
    vocab: Vocab,
    source: str,
    *,
    cache_folder: Path,
    data_folder: Path | None,
    stdin: BinaryIO | None,
    cut: Cut = STREAM,
) -> EncodedText:
    """A text to measure, in an existing vocabulary: its unit, line ends and policy for unknown characters.

    cut: how the texts of the vocabulary are cut into documents.
    Reads what `prepare_corpus` reads, in bounded memory: the ids lie in an anonymous temporary file in `cache_folder`.
    Raises TextError also if nothing of the text is left.
    """
    _prepare_cache(cache_folder)
    where = "standard input" if source == STDIN else repr(source)
    unknown_chars, unknown = 0, set[int]()
    with (
        open_sources([source], cache_folder=cache_folder, data_folder=data_folder, stdin=stdin) as files,
        cache_errors(cache_folder),
        tempfile.TemporaryFile(dir=cache_folder) as file,
    ):
        for text in read_text(files, vocab, sha256(), cut):
            codes = code_points(text)
            strange = codes[vocab.lookup(codes) < 0]
            unknown_chars += len(strange)
            unknown.update(np.unique(strange).tolist())
            file.write(vocab.encode_codes(codes, where=where).data)
        file.flush()
        if not file.tell():
            raise TextError(f"{where} is empty or holds no known character; give a text of the kind trained on")
        os.fchmod(file.fileno(), _mode_of(files))
        ids = map_ids(file, vocab.id_dtype)
    return EncodedText(ids=ids, unknown_chars=unknown_chars, unknown=tuple(map(chr, sorted(unknown))))


def cache_errors(cache_folder: Path) -> AbstractContextManager[None]:
    """A context in which a refusal of the disk is an InputOutputError that names the cache."""
    return disk_errors(f"to the cache {str(cache_folder)!r}", advice="free some space there or choose another folder")


def _count_codes(texts: Iterable[str]) -> npt.NDArray[np.int64]:
    counts = np.zeros(CODE_POINTS, dtype=np.int64)
    for text in texts:
        found = np.bincount(code_points(text))
        counts[: len(found)] += found
    return counts


def _write_training_ids(file: BinaryIO, texts: Iterable[str], vocab: Vocab) -> Digest:
    """Write the ids and return their sha256; here what is not in the vocabulary is what `min_count` left out."""
    # A character that was not in the text before is dropped here, and shows in the digest of the second reading.
    training = replace(vocab, unknown="replace" if vocab.has_unknown_symbol else "skip")
    checksum = sha256()
    for text in texts:
        ids = training.encode_codes(code_points(text), where="the text").data
        checksum.update(ids)
        file.write(ids)
    return checksum


def _checksum_of(ids_digest: Digest, record: dict[str, Any]) -> str:
    ids_digest.update(json.dumps(record, sort_keys=True).encode())
    return ids_digest.hexdigest()


def _listed(sources: Sequence[str]) -> str:
    named = ", ".join(map(repr, sources[:3]))
    return f"{named} and {len(sources) - 3} more" if len(sources) > 3 else named


def _mode_of(files: Sequence[TextFile]) -> int:
    """Who may read what is made of the files: whoever may read each of them."""
    return 0o600 | functools.reduce(operator.and_, (file.mode for file in files), 0o066)


def _prepare_cache(cache_folder: Path) -> None:
    """Make the cache folder, and remove what processes that are gone left unfinished in it."""
    with cache_errors(cache_folder):
        cache_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_abandoned(cache_folder)
