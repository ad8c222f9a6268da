"""Texts that are none, or strange: each is refused in one sentence that names it, or trained on as it is.

Other bad command lines, and the commoner of these texts, are in tests/cli/test_errors.py.
"""

import gzip
import lzma
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from charlstm import runs
from charlstm.errors import TextError

from ..cli.commands import charlstm
from ..forks import Forks
from ..small_runs import refuse_damage, train, write_settings

GOOD = "hello, world\n" * 100


REFUSED: dict[str, tuple[str, bytes, str]] = {  # name: file, content, what is said
    "invalid UTF-8": ("bad.txt", b"one\ntwo\nthr\xffee\n" + GOOD.encode(), "at byte offset 11, line 3 (0xff)"),
    "UTF-8 cut in a character": ("bad.txt", (GOOD + "é").encode()[:-1], "at byte offset 1300, line 101 (0xc3)"),
    "an overlong NUL": ("bad.txt", b"\xc0\x80" + GOOD.encode(), "at byte offset 0, line 1 (0xc0)"),
    "a surrogate in UTF-8": ("bad.txt", b"a\xed\xa0\x80" + GOOD.encode(), "at byte offset 1, line 1 (0xed)"),
    "UTF-16": ("bad.txt", GOOD.encode("utf-16"), "is UTF-16"),
    "UTF-16 the other way": ("bad.txt", b"\xfe\xff" + GOOD.encode("utf-16-be"), "is UTF-16"),
    "UTF-32": ("bad.txt", GOOD.encode("utf-32"), "is UTF-32"),
    "nothing but a mark": ("bad.txt", b"\xef\xbb\xbf", "empty"),
    "a gzip that is none": ("bad.txt.gz", GOOD.encode(), "broken archive"),
    "a gzip with a flipped bit": ("bad.txt.gz", gzip.compress(GOOD.encode())[:-6] + b"\0" * 6, "broken archive"),
    "a gzip of nothing": ("bad.txt.gz", gzip.compress(b""), "empty"),
    "an empty gzip": ("bad.txt.gz", b"", "empty"),
    "an xz cut short": ("bad.txt.xz", lzma.compress(GOOD.encode())[:-9], "cut short"),
    "a gzip of bad UTF-8": ("bad.txt.gz", gzip.compress(b"a\n\xff"), "line 2 (0xff)"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("run"), overrides=("data.unknown=skip",), steps=1)


def refuse(folder: Path, run: Path, source: str, told: str, *, stdin: bytes = b"") -> None:
    """Fail unless both commands that read a text refuse this one in a sentence, and leave nothing behind."""
    config = write_settings(folder)
    cache = Path(os.environ["CHARLSTM_CACHE"])
    before = set(folder.iterdir()), set(cache.iterdir()) if cache.exists() else set()
    train = ["train", config, "--set", f"data.sources={source}", "--run", folder / "new"]
    for command in (train, ["eval", source, "--run", run]):
        result = charlstm(*command, stdin=stdin, expect=TextError.exit_code)
        assert result.stdout == ""
        assert result.stderr.startswith("charlstm: ")
        assert result.stderr.count("\n") == 1, result.stderr
        assert told in result.stderr
        assert len(result.stderr) < 500 + len(source)
        assert set(folder.iterdir()) == before[0]
        assert {path for path in cache.iterdir() if path.suffix != ".json"} <= before[1]


@pytest.mark.parametrize("name", REFUSED)
def test_bad_texts_are_refused_as_a_file_and_through_a_pipe(name: str, tmp_path: Path, run: Path) -> None:
    file, content, told = REFUSED[name]
    (tmp_path / file).write_bytes(content)
    refuse(tmp_path, run, file, told)
    if file.endswith(".txt"):
        refuse(tmp_path, run, "-", told, stdin=content)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("missing.txt", "there is no file or folder 'missing.txt'"),
        ("*.nothing", "matches no file"),
        ("empty", "holds no file"),
        ("hidden", "holds no file"),
        ("/dev/null", "is a device"),
        ("/dev/zero", "is a device"),
        ("/proc/self/mem", "cannot be read"),
        ("loop", "cannot be read"),
        ("n" * 5000, "cannot be read: File name too long"),
        ("file.txt/inside", "there is no file or folder"),
        ("socket", "cannot be read"),
        ("mixed", "mixed/b.txt"),
    ],
    ids=lambda value: value[:20],
)
def test_bad_texts_that_are_no_text_files_are_refused(source: str, told: str, tmp_path: Path, run: Path) -> None:
    for folder in ("empty", "hidden", "mixed"):
        (tmp_path / folder).mkdir()
    (tmp_path / "hidden" / ".text").write_text(GOOD)
    (tmp_path / "mixed" / "a.txt").write_text(GOOD)
    (tmp_path / "mixed" / "b.txt").write_bytes(b"\xff\xfe\xfd" + GOOD.encode()[:-1])
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file.txt").write_text(GOOD)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        refuse(tmp_path, run, source, told)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads every file")
def test_bad_texts_that_may_not_be_read_are_refused(tmp_path: Path, run: Path) -> None:
    for path in (tmp_path / "locked.txt", tmp_path / "locked" / "text.txt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(GOOD)
    (tmp_path / "locked.txt").chmod(0)
    (tmp_path / "locked").chmod(0)
    try:
        for source in ("locked.txt", "locked", "locked/text.txt"):
            refuse(tmp_path, run, source, "Permission denied")
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_bad_texts_that_grow_while_they_are_read_are_refused(tmp_path: Path) -> None:
    path, config = tmp_path / "log.txt", write_settings(tmp_path)
    path.write_text("a line of a log\n" * 200_000)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            while not stop.wait(0.0005):
                file.write(b"more\n")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        result = charlstm("train", config, "--set", "data.sources=log.txt", "--run", "new", expect=TextError.exit_code)
    finally:
        stop.set()
        writer.join()
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert "changed while it was being read" in result.stderr
    assert not (tmp_path / "new").exists()


STRANGE = {
    "a byte-order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "NUL": ("a\0b" * 500).encode(),
    "nothing but NUL": bytes(1000),
    "CR only": GOOD.replace("\n", "\r").encode(),
    "U+2028": GOOD.replace("\n", "\u2028").encode(),
    "U+0085": GOOD.replace("\n", "\u0085").encode(),
    "combining characters": ("e\u0301\u0327o\u0308" * 200).encode(),
    "right to left": ("\u202eabc\u05d0" * 200).encode(),
    "control characters": bytes(range(32)) * 30,
    "escape sequences": b"\x1b[2J\x1b]0;title\x07" * 60,
    "the highest characters": ("\U0010ffff\ufffe\uffff\ufeff" * 200).encode(),
    "one line": b"x" * 1000,
}


@pytest.mark.parametrize("name", STRANGE)
def test_bad_texts_that_are_only_strange_are_trained_on_as_they_are(name: str, tmp_path: Path) -> None:
    (tmp_path / "strange.txt").write_bytes(STRANGE[name])
    config = write_settings(tmp_path, steps=2)
    result = charlstm("train", config, "--set", "data.sources=strange.txt", "--run", "new")
    assert result.stdout == ""
    assert "\x1b" not in result.stderr
    symbols = set(runs.open_run(tmp_path / "new").vocab.symbols)
    assert symbols == set(STRANGE[name].removeprefix(b"\xef\xbb\xbf").decode())
    charlstm("sample", "--run", "new", "--length", "20", "--seed", "1")


@pytest.mark.long
@pytest.mark.parametrize("unit", ["char", "byte"])
def test_bad_texts_one_line_of_100_megabytes(unit: str, forks: Forks, tmp_path: Path, tell: Any) -> None:
    (tmp_path / "line.txt").write_bytes(b"0123456789" * 10_000_000)
    config, folder = write_settings(tmp_path, steps=2), tmp_path / "new"
    more = ["--set", "data.split=[0.999,0.001,0]", "--set", f"data.unit={unit}"]
    command = ["train", str(config), "--set", "data.sources=line.txt", "--run", str(folder), *more]
    end = forks.run(command, cwd=tmp_path, more_memory_bytes=700 << 20)
    assert (end.code, end.out) == (0, ""), end
    assert refuse_damage(folder)
    tell(f"100,000,000 {unit}s in one line trained on, with 700 MiB more memory at most")


@pytest.mark.long
def test_bad_texts_a_million_distinct_characters(forks: Forks, tmp_path: Path, tell: Any) -> None:
    """Every character that Unicode has, but for the surrogates, which are none."""
    everything = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    (tmp_path / "all.txt").write_text("".join(everything), newline="")
    config, folder = write_settings(tmp_path, steps=1), tmp_path / "new"
    small = ["--set", "training.batch_size=1", "--set", "training.sequence_length=2", "--set", "data.split=[1,0,0]"]
    command = ["train", str(config), "--set", "data.sources=all.txt", "--run", str(folder), *small]
    end = forks.run(command, cwd=tmp_path)
    assert (end.code, end.out) == (0, ""), end
    assert len(runs.open_run(folder).vocab.symbols) == len(everything) == 1_112_064
    end = forks.run(["sample", "--run", str(folder), "--length", "50", "--seed", "1"], cwd=tmp_path)
    assert end.code == 0, end
    resumed = ["train", "--resume", str(folder), "--set", "training.max_steps=2"]
    assert forks.run(resumed, cwd=tmp_path).code == 0
    shutil.rmtree(folder)
    tell("1,112,064 distinct characters trained on, sampled from and resumed")
