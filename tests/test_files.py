"""Files: the old content or the new stands in its place, and what a dead writer left is found by its lock."""

import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO

import pytest

from charlstm.errors import InputOutputError, RunError
from charlstm.files import (
    UNFINISHED,
    atomic_file,
    disk_errors,
    read_bounded,
    remove_abandoned,
    write_file,
    write_folder,
)


def test_atomic_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_atomic_file_that_fails_leaves_the_old_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"%d" % (1 // 0))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_write_folder_replaces_all_of_an_older_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder", {"a": b"1", "b": b"2"})
    write_folder(tmp_path / "folder", {"b": b"3", "c": b"4"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()} == {"b": b"3", "c": b"4"}
    assert os.listdir(tmp_path) == ["folder"]


def test_abandoned_files_are_those_whose_writer_is_gone(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from charlstm.files import atomic_file\n"
        "with atomic_file(Path('dead')) as file: os._exit(9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=False)
    assert [name for name in os.listdir(tmp_path) if name.startswith(UNFINISHED)]
    (tmp_path / "unfinished-story").write_text("not ours")
    with atomic_file(tmp_path / "alive") as file:
        remove_abandoned(tmp_path)
        file.write(b"still here")
    assert sorted(os.listdir(tmp_path)) == ["alive", "unfinished-story"]
    assert (tmp_path / "alive").read_bytes() == b"still here"


def test_abandoned_files_are_regular_ones_and_a_fifo_or_a_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f"{UNFINISHED}link").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / f"{UNFINISHED}fifo")
    write_file(tmp_path / f"{UNFINISHED}file", b"half")
    with ThreadPoolExecutor() as pool:
        call = pool.submit(remove_abandoned, tmp_path)
        done, _ = wait([call], timeout=5)
        os.close(os.open(tmp_path / f"{UNFINISHED}fifo", os.O_RDWR))  # which ends its wait if it waits
    assert call in done
    assert sorted(os.listdir(tmp_path)) == [f"{UNFINISHED}fifo", f"{UNFINISHED}link", "mine"]


def test_atomic_file_that_was_taken_for_abandoned_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = fcntl.flock, []

    def too_late(file: IO[bytes], operation: int) -> None:
        if not calls:
            os.unlink(file.name)
        calls.append(operation)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", too_late)
    write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_read_bounded_refuses_what_is_longer_or_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bounded(tmp_path / "file", 5) == b"12345"
    with pytest.raises(RunError, match="longer than the 4 bytes"):
        read_bounded(tmp_path / "file", 4)
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "missing", "."):
        with pytest.raises(RunError, match="no regular file"):
            read_bounded(tmp_path / name, 4)


def test_disk_errors_are_one_sentence_with_advice() -> None:
    sentence = r"^could not write the page: No space left on device \(x\); free some space$"
    with pytest.raises(InputOutputError, match=sentence), disk_errors("the page", advice="free some space"):
        raise OSError(28, os.strerror(28), "x")
