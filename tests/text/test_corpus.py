"""Corpus: the ids are those of the whole text wherever its chunks end, and the cache is never trusted blindly."""

import io
import os
import unicodedata
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import InputOutputError, TextError
from charlstm.files import UNFINISHED, atomic_file
from charlstm.settings import DataSettings
from charlstm.text import corpus as corpus_module
from charlstm.text import split_ids, text_files
from charlstm.text.corpus import encode_source, open_corpus, prepare_corpus

TEXT = "aé→😀\r\n\r\r\nb\n\x00\u2028e\u0301\r"


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def prepare(*names, stdin=None, **changes):
    data = DataSettings(sources=names, **changes)
    return prepare_corpus(data, cache_folder=Path("cache"), data_folder=None, stdin=stdin)


def prepare_bytes(content, **changes):
    return prepare("-", stdin=io.BytesIO(content), **changes)


def encode(vocab, source, stdin=None):
    return encode_source(vocab, source, cache_folder=Path("cache"), data_folder=None, stdin=stdin)


def text_of(corpus):
    return corpus.vocab.to_bytes(corpus.ids)


def cached(suffix):
    (path,) = Path("cache").glob(f"*{suffix}")
    return path


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 4, 5, 7, 11])
@pytest.mark.parametrize("unit", ["char", "byte"])
def test_corpus_is_the_same_wherever_chunks_end(chunk_bytes, unit, monkeypatch):
    keep, normal = (prepare_bytes(TEXT.encode() * 5, unit=unit, newline=newline) for newline in ("keep", "normalize"))
    assert text_of(keep) == TEXT.encode() * 5
    assert text_of(normal) == (TEXT * 5).replace("\r\n", "\n").replace("\r", "\n").encode()
    for path in Path("cache").iterdir():
        path.unlink()
    monkeypatch.setattr(text_files, "CHUNK_BYTES", chunk_bytes)
    for whole in keep, normal:
        pieces = prepare_bytes(TEXT.encode() * 5, unit=unit, newline=whole.vocab.newline)
        assert pieces.fingerprint == whole.fingerprint
        assert pieces.vocab == whole.vocab
        assert np.array_equal(pieces.ids, whole.ids)


@pytest.mark.parametrize("chunk_bytes", [1, 2, 1 << 20])
def test_corpus_joins_files_without_their_byte_order_marks(chunk_bytes, monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", chunk_bytes)
    Path("a").write_bytes(b"\xef\xbb\xbfone\r")
    Path("b").write_bytes(b"\xef\xbb\xbf\nt\xef\xbb\xbfwo")
    assert text_of(prepare("a", "b")) == "one\r\nt\ufeffwo".encode()
    assert text_of(prepare("a", "b", newline="normalize")) == "one\nt\ufeffwo".encode()
    assert text_of(prepare("a", unit="byte")) == b"\xef\xbb\xbfone\r"


@pytest.mark.parametrize("chunk_bytes", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize(
    ("content", "offset", "line"),
    [
        (b"ab\nc\xff\n", 4, 2),
        (b"\xef\xbb\xbf\n\n\xe2\x82", 5, 3),
        (b"12345678\xc3", 8, 1),
        (b"abc\xc3\n\n", 3, 1),
        (b"\n" * 99 + b"\xed\xa0\x80", 99, 100),
    ],
)
def test_corpus_names_the_byte_and_line_of_invalid_utf8(content, offset, line, chunk_bytes, monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", chunk_bytes)
    Path("x").write_bytes(content)
    with pytest.raises(TextError, match=rf"'x' is not valid UTF-8 at byte offset {offset}, line {line} "):
        prepare("x")
    assert os.listdir("cache") == []


@pytest.mark.parametrize("unknown", ["error", "skip", "replace"])
def test_corpus_gives_rare_characters_the_unknown_symbol_whatever_the_policy(unknown):
    corpus = prepare_bytes(b"aaxbbya", min_count=2, unknown=unknown)
    assert corpus.vocab.symbols == ("a", "b")
    assert corpus.ids.tolist() == [0, 0, 2, 1, 1, 2, 0]
    assert prepare_bytes(b"abab", unknown="skip").vocab.has_unknown_symbol is False


def test_corpus_takes_bytes_of_any_kind():
    raw = os.urandom(5000) + b"\xff\xfe\r\n"
    corpus = prepare_bytes(raw, unit="byte", min_count=7)
    assert (text_of(corpus), corpus.chars, corpus.ids.dtype) == (raw, 5004, np.uint8)


def test_corpus_is_a_read_only_map():
    corpus = prepare_bytes(b"text")
    assert isinstance(corpus.ids, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        corpus.ids[0] = 1


def test_corpus_is_encoded_once(monkeypatch):
    first = prepare_bytes(TEXT.encode())
    monkeypatch.setattr(corpus_module, "_write_training_ids", None)
    Path("x").write_bytes(TEXT.encode())
    again = prepare("x")
    assert np.array_equal(first.ids, again.ids)
    assert (again.fingerprint, again.sources) == (first.fingerprint, ("x",))


def test_corpus_fingerprint_tells_content_and_settings_apart():
    Path("x").write_bytes(b"ab")
    Path("y").write_bytes(b"\nab")
    variants = [
        prepare("x"),
        prepare("y"),
        prepare("x", "y"),
        prepare("x", unit="byte"),
        prepare("x", unknown="replace"),
        prepare("x", newline="normalize"),
        prepare("x", "x", min_count=2),
        prepare("x", "x"),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)


def test_corpus_opens_again_without_its_sources():
    first = prepare_bytes(TEXT.encode(), min_count=2)
    again = open_corpus(first.fingerprint, Path("cache"))
    assert np.array_equal(again.ids, first.ids)
    assert (again.vocab, again.sources, again.fingerprint) == (first.vocab, ("-",), first.fingerprint)


def flip_a_bit(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("suffix", [".ids", ".json"])
@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        flip_a_bit,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(b'[{"checksum": 1}]'),
    ],
)
def test_corpus_rebuilds_a_damaged_cache(suffix, damage):
    first = prepare_bytes(TEXT.encode() * 9)
    expected = np.array(first.ids)
    damage(cached(suffix))
    assert open_corpus(first.fingerprint, Path("cache")) is None
    assert np.array_equal(prepare_bytes(TEXT.encode() * 9).ids, expected)
    assert open_corpus(first.fingerprint, Path("cache")) is not None


def test_corpus_opens_no_path_that_is_not_a_fingerprint():
    fingerprint = prepare_bytes(TEXT.encode()).fingerprint
    assert open_corpus(f"../cache/{fingerprint}", Path("cache")) is None
    assert open_corpus(sha256().hexdigest(), Path("nowhere")) is None


@pytest.mark.parametrize("later", [b"abcab", b"abc", b"abx", b"abcabca", b"\xff"])
def test_corpus_refuses_a_text_that_changes_while_it_is_read(later, monkeypatch):
    Path("x").write_bytes(b"abcabc")
    count = corpus_module._count_codes

    def count_then_change(texts):
        counts = count(texts)
        Path("x").write_bytes(later)
        return counts

    monkeypatch.setattr(corpus_module, "_count_codes", count_then_change)
    with pytest.raises(TextError, match=r"changed while it was being read|not valid UTF-8"):
        prepare("x")
    assert os.listdir("cache") == []


def test_corpus_says_that_the_cache_cannot_be_written():
    Path("cache").write_bytes(b"a file")
    with pytest.raises(InputOutputError, match="could not write to the cache 'cache': File exists"):
        prepare_bytes(b"text")


def test_corpus_removes_what_dead_processes_left_and_nothing_else():
    Path("cache").mkdir()
    Path("cache", f"{UNFINISHED}dead").write_bytes(b"x")
    Path("cache", "unfinished-story").write_bytes(b"x")
    with atomic_file(Path("cache", "alive")) as file:
        prepare_bytes(b"text")
        file.write(b"of another process")
    left = {path.name for path in Path("cache").iterdir() if path.suffix not in (".ids", ".json")}
    assert left == {"alive", "unfinished-story"}


def test_corpus_encodes_another_text_with_the_same_vocabulary():
    vocab = prepare_bytes(b"abc\n", newline="normalize", unknown="replace").vocab
    Path("other").write_bytes("\ufeffaéb\r\né😀".encode())
    encoded = encode(vocab, "other")
    assert encoded.ids.tolist() == [1, 4, 2, 0, 4, 4]
    assert (encoded.unknown_chars, encoded.unknown) == (3, ("é", "😀"))
    assert sorted(path.suffix for path in Path("cache").iterdir()) == [".ids", ".json"]


def test_corpus_encodes_another_text_by_the_policy():
    skip, error = (prepare_bytes(b"abc\n", unknown=policy).vocab for policy in ("skip", "error"))
    assert encode(skip, "-", io.BytesIO(b"axbc")).ids.tolist() == [1, 2, 3]
    assert encode(skip, "-", io.BytesIO(b"axbc")).unknown_chars == 1
    with pytest.raises(TextError, match=r"in standard input: 'x' \(U\+0078\)"):
        encode(error, "-", io.BytesIO(b"axbc"))
    for nothing in b"", b"xyz":
        with pytest.raises(TextError, match="empty or holds no known character"):
            encode(skip, "-", io.BytesIO(nothing))


@given(st.text(alphabet="ab\r\n", min_size=1), st.integers(1, 6))
def test_corpus_and_prompt_agree_on_ids(tmp_path_factory, text, chunk_bytes):
    folder = tmp_path_factory.mktemp("agree")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(text_files, "CHUNK_BYTES", chunk_bytes)
        corpus = prepare_bytes(text.encode(), newline="normalize")
        assert np.array_equal(corpus.ids, corpus.vocab.encode_text(text, where="it"))


def test_corpus_splits_tinyshakespeare_as_nanogpt_does():
    splits = split_ids(np.zeros(1_115_394, np.uint8), [0.9, 0.1, 0.0])
    assert [len(part) for part in splits] == [1_003_854, 111_540, 0]


@pytest.mark.parametrize(
    ("fractions", "sizes"),
    [
        ([0.8, 0.1, 0.1], [82, 11, 10]),
        ([1.0, 0.0, 0.0], [103, 0, 0]),
        ([0.9, 0.0, 0.1], [92, 0, 11]),
        ([0.0, 1.0, 0.0], [0, 103, 0]),
    ],
)
def test_corpus_splits_are_contiguous_views_of_everything(fractions, sizes):
    ids = np.arange(103, dtype=np.uint8)
    splits = split_ids(ids, fractions)
    assert [len(part) for part in splits] == sizes
    assert np.array_equal(np.concatenate(splits), ids)
    assert all(np.shares_memory(part, ids) for part in splits if len(part))


DECOMPOSED = "Zwo\u0308lf \u1112\u1161\u11ab\u1100\u1173\u11af e\u0323\u0302x \uff76\uff9e \ufb01 \u0bc6\u0bbe \u0301\n"


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 5, 7, 11, 1 << 20])
@pytest.mark.parametrize("form", ["nfc", "nfkc"])
def test_corpus_is_put_into_a_normal_form_wherever_chunks_end(chunk_bytes, form, monkeypatch):
    raw = prepare_bytes((DECOMPOSED * 5).encode())
    monkeypatch.setattr(text_files, "CHUNK_BYTES", chunk_bytes)
    found = prepare_bytes((DECOMPOSED * 5).encode(), normalize=form)
    assert text_of(found).decode() == unicodedata.normalize(form.upper(), DECOMPOSED * 5)
    assert found.fingerprint != raw.fingerprint
    assert found.vocab.encode_text(DECOMPOSED, where="it").tolist() == found.ids[: len(found.ids) // 5].tolist()
    Path("evaluated").write_bytes(DECOMPOSED.encode())
    evaluated = encode_source(found.vocab, "evaluated", cache_folder=Path("cache"), data_folder=None, stdin=None)
    assert evaluated.ids.tolist() == found.ids[: len(evaluated.ids)].tolist()


def test_corpus_without_a_normal_form_has_the_key_and_vocabulary_of_earlier_versions():
    corpus = prepare_bytes(b"abc")
    assert corpus.fingerprint == sha256(b"charlstm ids 1 char 1 error keep\nabc").hexdigest()
    assert "normalize" not in corpus.vocab.to_json()
