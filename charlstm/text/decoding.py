"""Files to text in pieces: decoded, with normalized line ends and Unicode form, and cut into documents."""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Protocol

from charlstm.settings import DataSettings
from charlstm.text.characters import (
    NormalForm,
    decode_utf8,
    drop_byte_order_mark,
    normalize_form,
    normalize_newlines,
    stable_prefix,
)
from charlstm.text.cutting import STREAM, Cut, cut_documents
from charlstm.text.text_files import TextFile, read_chunks
from charlstm.text.vocabulary import Vocab


class Digest(Protocol):
    """A hash that is fed, as those of hashlib."""

    def update(self, data: Any, /) -> None:
        """Feed bytes."""

    def hexdigest(self) -> str:
        """The hash of all that it was fed."""


def read_text(files: Sequence[TextFile], how: DataSettings | Vocab, digest: Digest, cut: Cut = STREAM) -> Iterator[str]:
    r"""The files' text in pieces, with BOUNDARY after each document unless it is one stream.

    Feeds `digest` what was read. Bytes become the characters U+0000 … U+00FF.
    """
    if cut.kind == "stream":
        pieces = _newlines((piece for file in files for piece in _decoded(file, how, digest)), how)
    else:
        pieces = (piece for file in files for piece in _documents(file, how, digest, cut))
    return pieces if how.normalize == "none" else _in_form(pieces, how.normalize)


def _documents(file: TextFile, how: DataSettings | Vocab, digest: Digest, cut: Cut) -> Iterator[str]:
    """A file's documents. The digest is told where the file ends, as a document ends there."""
    of_file = sha256()
    yield from cut_documents(_newlines(_decoded(file, how, of_file), how), cut, where=file.name)
    digest.update(of_file.digest())


def _decoded(file: TextFile, how: DataSettings | Vocab, digest: Digest) -> Iterator[str]:
    return _as_characters(file, digest) if how.unit == "char" else _as_bytes(file, digest)


def _newlines(pieces: Iterator[str], how: DataSettings | Vocab) -> Iterator[str]:
    return _normalized(pieces) if how.newline == "normalize" else pieces


def _as_bytes(file: TextFile, digest: Digest) -> Iterator[str]:
    for chunk in read_chunks(file):
        digest.update(chunk)
        yield chunk.decode("latin-1")


def _as_characters(file: TextFile, digest: Digest) -> Iterator[str]:
    """A file's text without its byte-order mark; a character that a chunk cuts in two waits for the next chunk."""
    waiting, offset, line = b"", 0, 1
    for chunk in read_chunks(file):
        body = chunk
        if offset == 0:
            body = drop_byte_order_mark(chunk, where=file.name)
            offset = len(chunk) - len(body)
        digest.update(body)
        data = waiting + body
        text, used = decode_utf8(data, final=False, where=file.name, offset=offset, line=line)
        yield text
        waiting, offset, line = data[used:], offset + used, line + data.count(b"\n", 0, used)
    decode_utf8(waiting, final=True, where=file.name, offset=offset, line=line)


def _normalized(pieces: Iterable[str]) -> Iterator[str]:
    r"""The pieces with \r\n and \r as \n, as if they were one; a final \r waits to see what follows."""
    waiting = ""
    for piece in pieces:
        text = waiting + piece
        waiting = "\r" if text.endswith("\r") else ""
        yield normalize_newlines(text.removesuffix("\r"))
    yield normalize_newlines(waiting)


def _in_form(pieces: Iterable[str], form: NormalForm) -> Iterator[str]:
    """The pieces in a normal form, as if they were one; what may be joined with what follows waits for it."""
    waiting = ""
    for piece in pieces:
        text = waiting + piece
        stable = stable_prefix(text)
        yield normalize_form(text[:stable], form)
        waiting = text[stable:]
    yield normalize_form(waiting, form)
