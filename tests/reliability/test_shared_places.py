"""Places that other processes, users and machines use as well: a run's folder, the file of its text in the cache."""

import os
import shutil
import stat
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlstm import files, runs
from charlstm.errors import CharLSTMError, InputOutputError, RunError
from charlstm.runs import checkpoints
from charlstm.settings import DataSettings, load_settings
from charlstm.text import open_corpus, prepare_corpus
from charlstm.text.batches import Lanes
from charlstm.training import Fact, Stepped, resume_session, start_session

from ..forks import Forks, wait_until
from ..runs import saved
from ..small_runs import contents, end_of, start, write_settings


def after(step: int, act: Callable[[], object]) -> Callable[[Fact], None]:
    """Called with the facts of a training, acts after a step."""
    return lambda fact: act() if isinstance(fact, Stepped) and fact.facts.step == step else None


@pytest.mark.parametrize("how", ["renamed", "removed"])
def test_shared_folder_that_another_run_took_is_not_written_into(tmp_path: Path, how: str) -> None:
    config = write_settings(tmp_path, steps=6)
    ours, other = tmp_path / "run", start(tmp_path, tmp_path / "other")
    before = contents(other)

    def replace() -> None:
        ours.rename(tmp_path / "moved") if how == "renamed" else shutil.rmtree(ours)
        other.rename(ours)

    with start_session(load_settings(config), folder=ours) as session:
        with pytest.raises(RunError, match="no longer the folder") as caught:
            session.train(tell=after(3, replace))
        assert "\n" not in str(caught.value)
    assert contents(ours) == before
    if how == "renamed":
        with resume_session(tmp_path / "moved") as session:
            session.train()
        start(tmp_path, tmp_path / "whole")
        assert end_of(tmp_path / "moved") == end_of(tmp_path / "whole")


@pytest.mark.parametrize("how", ["link", "folder"])
def test_shared_checkpoints_in_the_place_of_a_runs_own_are_left_alone(tmp_path: Path, how: str) -> None:
    config = write_settings(tmp_path, steps=6)
    ours, other = tmp_path / "run", start(tmp_path, tmp_path / "other")
    before = contents(other)

    def replace() -> None:
        (ours / "checkpoints").rename(tmp_path / "moved")
        if how == "link":
            (ours / "checkpoints").symlink_to(other / "checkpoints")
        else:
            (other / "checkpoints").rename(ours / "checkpoints")

    with start_session(load_settings(config), folder=ours) as session:
        with pytest.raises(RunError, match=r"checkpoints is (a link|no longer the folder)") as caught:
            session.train(tell=after(3, replace))
        assert "\n" not in str(caught.value)
    if how == "folder":
        (ours / "checkpoints").rename(other / "checkpoints")
    assert contents(other) == before


def test_shared_checkpoints_that_are_a_link_are_not_resumed(run: Path, tmp_path: Path) -> None:
    (run / "checkpoints").rename(tmp_path / "target")
    (run / "checkpoints").symlink_to(tmp_path / "target")
    (tmp_path / "target" / f"{files.UNFINISHED}mine").mkdir()
    with pytest.raises(RunError, match="checkpoints is a link"), resume_session(run):
        pass
    assert (tmp_path / "target" / f"{files.UNFINISHED}mine").is_dir()


def test_shared_folder_that_is_replaced_before_it_is_locked_is_refused(run: Path, tmp_path: Path) -> None:
    opened = runs.open_run(run)
    shutil.copytree(run, tmp_path / "other")
    run.rename(tmp_path / "moved")
    (tmp_path / "other").rename(run)
    with pytest.raises(RunError, match="no longer"), runs.only_writer(opened):
        pass


def test_shared_name_is_won_by_one_of_many_starts() -> None:
    for number in range(30):
        ends: list[object] = []
        together = threading.Barrier(6)

        def begin(folder: Path, ends: list[object] = ends, together: threading.Barrier = together) -> None:
            together.wait()
            try:
                ends.append(runs.create_run(folder, saved.SETTINGS, saved.VOCAB, saved.TEXT, name="unused"))
            except CharLSTMError as error:
                ends.append(type(error))

        threads = [threading.Thread(target=begin, args=(Path(f"deep/{number}/run"),)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (won,) = (end for end in ends if isinstance(end, runs.Run))
        assert ends.count(RunError) == 5, ends
        assert runs.open_run(won.folder).settings == saved.SETTINGS


def test_shared_best_is_read_while_it_moves(tell: Callable[[str], None]) -> None:
    """Every save is a new best, so that what `best` named a moment ago is removed."""
    run = runs.create_run(None, saved.SETTINGS, saved.VOCAB, saved.TEXT, name="small")
    saved.save(run, 1, is_best=True)
    done = threading.Event()
    saves = 0

    def rotate() -> None:
        nonlocal saves
        with runs.only_writer(run):
            while not done.is_set():
                saves += 1
                saved.save(run, saves % 9 + 1, is_best=True, take=saves)  # also one that takes the place of its like

    writer = threading.Thread(target=rotate)
    writer.start()
    reads = 0
    try:
        while reads < 500 or saves < 50:
            reads += 1
            assert runs.read_checkpoint(run, ("best", "latest")[reads % 2], model_only=True).weights  # type: ignore[arg-type]
    finally:
        done.set()
        writer.join()
    tell(f"{reads} reads beside {saves} saves, none failed")


def test_shared_best_that_moves_on_before_its_files_are_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.create_run(None, saved.SETTINGS, saved.VOCAB, saved.TEXT, name="small")
    saved.save(run, 1, is_best=True)
    read, steps = checkpoints.read_checkpoint_named, iter(range(2, 8))

    def too_late(*args: Any, **kwargs: Any) -> runs.Checkpoint:
        for step in islice(steps, 2):  # after two, what was the best is gone
            saved.save(run, step, is_best=True)
        return read(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "read_checkpoint_named", too_late)
    assert saved.step_of(run, "best") == 7
    shutil.rmtree(run.checkpoints / "step-00000007")
    with pytest.raises(RunError, match="step-00000007"):  # which is damage
        runs.read_checkpoint(run, "best")


def prepare(folder: Path, text: Path) -> Path:
    """Encode a text; returns the file of its ids."""
    data = DataSettings(sources=(str(text),))
    corpus = prepare_corpus(data, cache_folder=folder, data_folder=None, stdin=None)
    return folder / f"{corpus.fingerprint}.ids"


@pytest.mark.parametrize("change", ["cut short", "overwritten"])
def test_shared_cache_that_is_changed_under_a_training_is_noticed(
    tmp_path: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "cache"))
    config = write_settings(tmp_path, steps=100_000, validate=1000, save=1000)
    folder = tmp_path / "run"

    def damage(_pid: int) -> None:
        wait_until((folder / "metrics.jsonl").exists)  # a step was taken
        (ids,) = (tmp_path / "cache").glob("*.ids")
        if change == "cut short":
            os.truncate(ids, 0)
        else:
            with ids.open("rb+") as file:
                file.write(b"\xff" * 100)

    end = forks.run(["train", str(config), "--run", str(folder), "--quiet"], cwd=tmp_path, meanwhile=damage)
    assert (end.code, end.err.count("\n")) == (InputOutputError.exit_code, 1), end
    assert "changed by another program" in end.err
    runs.read_checkpoint(runs.open_run(folder), "latest")


def test_shared_cache_gives_the_ids_of_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write to the cache may write ids with any checksum: who wrote them is asked of the system."""
    text, cache = tmp_path / "text", tmp_path / "cache"
    text.write_text("abc\n")
    ids = prepare(cache, text)
    expected = ids.read_bytes()
    assert open_corpus(ids.stem, cache)
    for path in (ids, ids.with_suffix(".json")):
        path.chmod(0o660)
        assert open_corpus(ids.stem, cache) is None
        prepare(cache, text)
        assert open_corpus(ids.stem, cache)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)
        assert (open_corpus(ids.stem, cache) is None) == (ids.stat().st_uid not in (0, 12345))
    if os.geteuid() == 0:
        os.chown(ids, 12345, -1)
        assert open_corpus(ids.stem, cache) is None
        prepare(cache, text)
    assert ids.read_bytes() == expected


def test_shared_cache_holds_no_text_under_the_name_of_another(tmp_path: Path) -> None:
    for name in ("abc\n", "cab\n"):
        (tmp_path / name[:3]).write_text(name)
    one, other = (prepare(tmp_path / "cache", tmp_path / name) for name in ("abc", "cab"))
    for suffix in (".ids", ".json"):
        shutil.copy(one.with_suffix(suffix), other.with_suffix(suffix))
    assert open_corpus(other.stem, tmp_path / "cache") is None


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_shared_text_gives_its_permissions_to_what_is_made_of_it(
    tmp_path: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """Once by its name, then, its source being away, from the cache."""
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "cache"))
    before = os.umask(0o022)
    try:
        config = write_settings(tmp_path, steps=2)
        (tmp_path / "text.txt").chmod(mode)
        run = start(tmp_path, tmp_path / "run")
        forks.run(["--version"], cwd=tmp_path)  # the server may have another umask
    finally:
        os.umask(before)
    assert config.exists()
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").iterdir()} <= {mode}
    for number, source in enumerate(([str(tmp_path / "text.txt")], [])):
        page, arrays = tmp_path / f"{number}.html", tmp_path / f"{number}.npz"
        end = forks.run(
            ["inspect", *source, "--run", str(run), "--html", str(page), "--npz", str(arrays)], cwd=tmp_path
        )
        assert end.code == 0, end
        assert {stat.S_IMODE(path.stat().st_mode) for path in (page, arrays)} == {mode}


def test_shared_cache_whose_unfinished_file_is_removed_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a machine to which our locks mean nothing."""
    (tmp_path / "text").write_text("abc\n")
    flush, removed = os.fsync, []

    def remove_once(descriptor: int) -> None:
        flush(descriptor)
        if len(removed) < 2:
            removed.extend(path.unlink() or path for path in (tmp_path / "cache").glob(f"{files.UNFINISHED}*"))

    monkeypatch.setattr(os, "fsync", remove_once)
    ids = prepare(tmp_path / "cache", tmp_path / "text")
    assert len(removed) == 2
    corpus = open_corpus(ids.stem, tmp_path / "cache")
    assert corpus is not None
    assert np.array(corpus.ids).tobytes() == ids.read_bytes()


def test_shared_cache_of_a_killed_encoder_is_made_by_the_next(
    tmp_path: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "cache"))
    config = write_settings(tmp_path, steps=1)
    for at in (1, 4, 7):
        (tmp_path / "text.txt").write_text("abc\n" * 60 + str(at))
        calls = {"root": str(tmp_path / "cache"), "at": at, "error": None}
        forks.run(["train", str(config), "--run", f"killed-{at}"], cwd=tmp_path, disk_calls=calls)
        assert forks.run(["train", str(config), "--run", f"run-{at}"], cwd=tmp_path).code == 0
        assert not list((tmp_path / "cache").glob(f"{files.UNFINISHED}*"))


def test_shared_ids_that_change_between_two_batches_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("abc\n" * 50)
    path = prepare(tmp_path / "cache", tmp_path / "text")
    corpus = open_corpus(path.stem, tmp_path / "cache")
    assert corpus is not None
    lanes = Lanes(corpus.ids[10:150], batch_size=2, sequence_length=3)
    lanes.batch(0)
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(InputOutputError, match="changed by another program"):
        lanes.batch(1)


def test_shared_text_of_a_fifo_is_resumed_from_its_encoded_copy(tmp_path: Path, forks: Forks) -> None:
    config = write_settings(tmp_path, steps=4)
    os.mkfifo(tmp_path / "fifo")
    feed = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes((tmp_path / "text.txt").read_bytes()))
    feed.start()
    train = ["train", str(config), "--run", "run", "--set", f"data.sources={tmp_path / 'fifo'}"]
    assert forks.run(train, cwd=tmp_path).code == 0
    feed.join()
    resume = ["train", "--resume", "run", "--set", "training.max_steps=6"]
    assert forks.run(resume, cwd=tmp_path).code == 0
    assert runs.read_checkpoint(runs.open_run(tmp_path / "run"), "latest").progress.step == 6
