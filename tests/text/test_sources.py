"""Sources: every kind of place that text comes from gives the same bytes, and every bad one a sentence."""

import glob
import gzip
import http.server
import io
import lzma
import os
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pytest
import zstandard

from charlstm.errors import InputOutputError, TextError
from charlstm.text import named_corpora, text_files
from charlstm.text.sources import absolute_sources, open_sources
from charlstm.text.text_files import read_chunks

TEXT = "Zwölf Boxkämpfer\r\njagen Viktor 😀\n".encode() * 20_000
COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    monkeypatch.chdir(tmp_path)


def read(*names, data_folder=None, stdin=None):
    with open_sources(names, cache_folder=Path("cache"), data_folder=data_folder, stdin=stdin) as files:
        once = [b"".join(read_chunks(file)) for file in files]
        assert once == [b"".join(read_chunks(file)) for file in files]
        return b"".join(once)


def write(path, content=TEXT):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)


def test_sources_join_files_as_cat_does():
    write("b", b"two")
    write("a", b"one\n")
    assert read("b", "a", "b") == b"twoone\ntwo"


def test_sources_read_a_folder_in_path_order_without_hidden_files():
    for name in ["f/b/x", "f/a.txt", "f/b.txt", "f/.hidden", "f/.git/x", "f/B"]:
        write(name, f"{name};".encode())
    os.mkfifo("f/pipe")
    assert read("f") == b"f/B;f/a.txt;f/b.txt;f/b/x;"


def test_sources_read_patterns_in_the_order_of_paths_and_numbers():
    for name in ["f/2.txt", "f/10.txt", "f/g/3.txt", "f/4.md"]:
        write(name, f"{name};".encode())
    assert read("f/*.txt") == b"f/2.txt;f/10.txt;"
    assert read("f/**/*.txt") == b"f/2.txt;f/10.txt;f/g/3.txt;"
    assert read("f/?.*") == b"f/2.txt;f/4.md;"


def test_sources_in_folders_nested_more_deeply_than_calls_are_read():
    write("f/1.txt", b"one;")
    nested = ["f" + "/d" * depth for depth in range(1, sys.getrecursionlimit() + 100)]
    try:
        for folder in nested:
            os.mkdir(folder)
        write(f"{nested[-1]}/2.txt", b"two;")
        assert read("f") == read("f/**/*.txt") == b"one;two;"
    finally:  # shutil.rmtree recurses before Python 3.13
        Path(f"{nested[-1]}/2.txt").unlink(missing_ok=True)
        for folder in filter(os.path.isdir, reversed(nested)):
            os.rmdir(folder)


def test_sources_prefer_an_existing_file_to_a_pattern():
    write("x[1].txt", b"itself")
    write("x1.txt", b"other")
    assert read("x[1].txt") == b"itself"


@pytest.mark.parametrize("suffix", COMPRESS)
def test_sources_decompress(suffix):
    packed = COMPRESS[suffix]
    write(f"whole{suffix}", packed(TEXT))
    write(f"joined{suffix}", packed(TEXT) + packed(b"more"))
    assert read(f"whole{suffix}") == TEXT
    assert read(f"joined{suffix}") == TEXT + b"more"


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize(
    "damaged",
    [lambda data: data[:-3], lambda data: data[:9], lambda data: b"\xff" + data[1:], lambda _: b"plain text"],
    ids=["cut", "cut early", "flip", "other"],
)
def test_sources_refuse_a_broken_archive(suffix, damaged):
    write(f"x{suffix}", damaged(COMPRESS[suffix](os.urandom(300_000))))
    with pytest.raises(TextError, match=rf"'x\{suffix}' is a broken archive or was cut short"):
        read(f"x{suffix}")


def test_sources_bound_what_a_hostile_zstd_unfolds_to():
    write("bomb.zst", zstandard.compress(bytes(200_000_000)))
    with open_sources(["bomb.zst"], cache_folder=Path("cache"), data_folder=None, stdin=None) as files:
        chunks = [len(chunk) for chunk in read_chunks(files[0])]
    assert sum(chunks) == 200_000_000
    assert max(chunks) <= text_files.CHUNK_BYTES


def test_sources_read_stdin_twice_and_leave_nothing():
    assert read("-", stdin=io.BytesIO(TEXT)) == TEXT
    assert os.listdir("cache") == []


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_sources_read_a_fifo(suffix):
    os.mkfifo(f"pipe{suffix}")
    writer = threading.Thread(target=write, args=(f"pipe{suffix}", gzip.compress(TEXT) if suffix else TEXT))
    writer.start()
    assert read(f"pipe{suffix}") == TEXT
    writer.join()


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("missing.txt", r"no file or folder 'missing.txt' in .*named corpora: python-stdlib"),
        ("tinyshakespear", "did you mean the corpus 'tinyshakespeare'"),
        ("a\0b", "no file or folder"),
        ("", "no file or folder"),
        ("*\0", "no file or folder"),
        ("cache/*", "matches no file"),
        ("-", "no standard input"),
    ],
)
def test_sources_refuse_what_is_not_there(source, complaint):
    with pytest.raises(TextError, match=complaint):
        read(source)


def test_sources_refuse_none_and_stdin_twice():
    with pytest.raises(TextError, match="no text was named"):
        read()
    with pytest.raises(TextError, match="named twice"):
        read("-", "-", stdin=io.BytesIO(b"x"))


def test_sources_say_what_cannot_be_read():
    write("x", b"text")
    with open_sources(["x"], cache_folder=Path("cache"), data_folder=None, stdin=None) as files:
        Path("x").unlink()
        with pytest.raises(TextError, match="'x' cannot be read: No such file"):
            list(read_chunks(files[0]))


def test_sources_name_a_failing_stdin_and_a_missing_cache():
    class Failing(io.BytesIO):
        def read(self, *_):
            raise OSError(5, "Input/output error")

    with pytest.raises(TextError, match="standard input cannot be read: Input/output error"):
        read("-", stdin=Failing())
    Path("cache").rmdir()
    with pytest.raises(InputOutputError, match="cannot copy standard input to the cache"):
        read("-", stdin=io.BytesIO(b"x"))


def test_sources_become_absolute(tmp_path):
    odd = tmp_path / "odd[1]"
    odd.mkdir()
    os.chdir(odd)
    write("x.txt", b"text")
    write("python-stdlib", b"mine")
    names = absolute_sources(["-", "python-stdlib", "tinyshakespeare", "x.txt", "*.txt", "./python-stdlib", "/y"])
    assert names[:3] == ("-", "python-stdlib", "tinyshakespeare")
    assert names[6] == "/y"
    os.chdir("/")
    with open_sources(names[3:6], cache_folder=tmp_path, data_folder=None, stdin=None) as files:
        assert [b"".join(read_chunks(file)) for file in files] == [b"text", b"text", b"mine"]


def test_sources_python_stdlib_is_large_fixed_and_free_of_tests():
    def names():
        with open_sources(["python-stdlib"], cache_folder=Path("cache"), data_folder=None, stdin=None) as files:
            return [file.name for file in files]

    assert names() == names() == sorted(names())
    assert not [name for name in names() if "/test/" in name or "/tests/" in name or "-packages/" in name]
    text = read("python-stdlib")
    assert len(text.decode()) > 5_000_000
    assert b"class OrderedDict" in text


@pytest.fixture
def serve(monkeypatch):
    """Point the download at a loopback server that sends `content`; `expected` is what its sha256 should be of."""
    servers = []

    def start(content, expected):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.server.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        server.requests = 0
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(named_corpora, "TINYSHAKESPEARE_URL", f"http://127.0.0.1:{server.server_port}/input.txt")
        monkeypatch.setattr(named_corpora, "TINYSHAKESPEARE_SHA256", sha256(expected).hexdigest())
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_sources_download_tinyshakespeare_once(serve, capfd):
    server = serve(TEXT, TEXT)
    assert read("tinyshakespeare") == TEXT
    assert read("tinyshakespeare") == TEXT
    assert server.requests == 1
    assert capfd.readouterr() == ("", "")


def test_sources_refuse_a_download_with_another_checksum(serve):
    serve(b"<html>not found</html>", TEXT)
    with pytest.raises(InputOutputError, match=r"is not tinyshakespeare .*set CHARLSTM_DATA"):
        read("tinyshakespeare")
    assert os.listdir("cache") == []


def test_sources_say_what_to_do_without_a_network(serve):
    server = serve(TEXT, TEXT)
    server.shutdown()
    server.server_close()
    with pytest.raises(InputOutputError, match=r"cannot download tinyshakespeare .*set CHARLSTM_DATA"):
        read("tinyshakespeare")


def test_sources_take_tinyshakespeare_from_the_data_folder(serve):
    server = serve(b"", TEXT)
    write("data/tinyshakespeare.txt", TEXT)
    assert read("tinyshakespeare", data_folder=Path("data")) == TEXT
    write("data/tinyshakespeare.txt", TEXT[:-1])
    with pytest.raises(TextError, match="is not the tinyshakespeare text"):
        read("tinyshakespeare", data_folder=Path("data"))
    assert server.requests == 0


def test_sources_read_each_found_file_once_and_follow_no_linked_folder():
    for name in ["f/a.txt", "f/g/b.txt", "other/c.txt"]:
        write(name, f"{name};".encode())
    os.symlink("..", "f/g/back")
    os.symlink("../other", "f/elsewhere")
    os.symlink("g/b.txt", "f/0.txt")
    os.link("f/a.txt", "f/z.txt")
    for pattern in ("f/**/*.txt", "f/**", "./f/**", os.path.abspath("f/**/*.txt")):
        assert read(pattern) == b"f/a.txt;f/g/b.txt;"
    assert read("f") == b"f/a.txt;f/g/b.txt;"
    assert read("f/*/*.txt") == b"f/g/b.txt;"
    assert read("f/elsewhere/*.txt") == b"other/c.txt;"  # the link is named
    assert read("f/*.txt", "f/a.txt") == b"f/g/b.txt;f/a.txt;f/a.txt;"  # each source by itself, as cat does
    with pytest.raises(TextError, match="matches no file"):
        read("f/e*/*.txt")


@pytest.mark.parametrize(
    "pattern", ["f/**/**/*.txt", "**/*.md", "f/[!1]*.txt", "f/.h*", "*/g/3.???", "f/g/../*.md", "**"]
)
def test_sources_match_what_glob_does(pattern):
    for name in ["f/20.txt", "f/10.txt", "f/g/3.txt", "f/40.md", "f/.hidden", "f/.git/x.txt"]:
        write(name, f"{name};".encode())
    expected = sorted({path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file()})
    assert read(pattern) == b"".join(path.read_bytes() for path in expected) != b""


def test_sources_know_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "novel.txt").write_text("abc")
    assert absolute_sources(("~/novel.txt", "~nobody-of-this-name/x")) == (
        str(tmp_path / "novel.txt"),
        str(Path.cwd() / "~nobody-of-this-name/x"),
    )
    with open_sources(("~/novel.txt",), cache_folder=tmp_path, data_folder=None, stdin=None) as files:
        assert [b"".join(read_chunks(file)) for file in files] == [b"abc"]
