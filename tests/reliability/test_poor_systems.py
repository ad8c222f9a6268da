"""Systems that lack something: a home, a locale, locks, memory, a clock that moves, an end of what they send."""

import errno
import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from charlstm import runs
from charlstm.cli.terminal import printable, report_errors
from charlstm.environment import cache_folder, run_folder
from charlstm.errors import DiskWarning, InputOutputError, RunError, SettingsError, TextError
from charlstm.files import write_file, write_folder
from charlstm.text import sources
from charlstm.text.download import download
from charlstm.text.text_files import read_chunks

from ..cli.commands import charlstm, shell
from ..forks import Forks, wait_until
from ..small_runs import end_of, start, write_settings

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("name", ["\udcff\udcfe", "a\nb", "\x1b[31m"], ids=["not UTF-8", "two lines", "escapes"])
def test_systems_name_files_in_any_way(run: Path, tmp_path: Path, name: str) -> None:
    run.rename(run.with_name(name))
    (tmp_path / f"{name}.txt").write_text("abc def xyz\n" * 20)
    assert f"{printable(name)}, training" in charlstm("plot", name).stdout
    charlstm("plot", name, "--png", "plot.png")
    files = ["--html", "page.html", "--png", f"{name}.png", "--npz", f"{name}.npz"]
    charlstm("inspect", f"{name}.txt", "--run", name, *files)
    assert Path(f"{name}.npz").exists()
    charlstm("sample", "--run", name, "--length", 3)
    told = charlstm("fill", f"{name}.txt", "--run", name, "--mask", "\udcff", expect=RunError.exit_code).stderr
    assert "a run that fills gaps is needed" in told


def test_systems_of_the_c_locale_name_files_in_any_way(run: Path, tmp_path: Path) -> None:
    name = "прогон"
    run.rename(run.with_name(name))
    (tmp_path / f"{name}.txt").write_text("abc def xyz\n" * 20)
    commands = (f"plot {name}", f"inspect {name}.txt --run {name} --html {name}.html --png {name}.png")
    done = shell(" && ".join(f"charlstm {command}" for command in commands), tmp_path, **C_LOCALE)
    assert (done.returncode, f"{name}, training" in done.stdout.decode()) == (0, True), done.stderr
    assert name in Path(f"{name}.html").read_text()
    done = shell(f"charlstm fill {name}.txt --run {name} --mask я", tmp_path, **C_LOCALE)
    assert "a run that fills gaps is needed" in done.stderr.decode()


def test_systems_without_a_home_need_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: object) -> pwd.struct_passwd:
        raise KeyError("nobody")

    for variable in ("HOME", "CHARLSTM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for name in ("getpwuid", "getpwnam"):
        monkeypatch.setattr(pwd, name, nobody)
    with pytest.raises(OSError, match=r"nobody knows this home folder .*CHARLSTM_CACHE.*~/.cache"):
        cache_folder()
    for variable, folder in (("CHARLSTM_RUN", run_folder), ("CHARLSTM_CACHE", cache_folder)):
        monkeypatch.setenv(variable, "~nouser/x")
        with pytest.raises(OSError, match="~nouser/x"):
            folder()


def test_systems_whose_home_is_unknown_are_told_so(tmp_path: Path, forks: Forks) -> None:
    config = write_settings(tmp_path)
    end = forks.run(["train", str(config)], cwd=tmp_path, env={"CHARLSTM_CACHE": "~nouser"})
    assert (end.code, end.out, end.err.count("\n")) == (InputOutputError.exit_code, "", 1)
    assert "~nouser" in end.err


@pytest.mark.parametrize("command", ["sample", "train", "eval nothing", "config show", "--help"])
def test_systems_whose_current_folder_is_gone_are_told_so(tmp_path: Path, command: str) -> None:
    (tmp_path / "gone").mkdir()
    done = shell(f"cd gone; rmdir ../gone; charlstm {command}", tmp_path, PYTHONPATH=str(Path(__file__).parents[2]))
    assert (done.returncode, done.stdout) == (InputOutputError.exit_code, b"")
    assert done.stderr == b"charlstm: the current folder is gone: change to another\n"


def test_systems_bound_the_length_of_a_name(run: Path, tmp_path: Path, forks: Forks) -> None:
    config, long = str(write_settings(tmp_path)), "x" * 300
    for command in (
        *(["train", long], ["train", config, "--run", long], ["train", config, "--set", f"data.sources={long}"]),
        *(["sample", "--run", long], ["eval", long, "--run", str(run)], ["plot", long], ["trace", long]),
        *(["inspect", "--run", str(run), "--html", long], ["train", "--resume", long]),
    ):
        end = forks.run(command, cwd=tmp_path)
        assert (end.code in (2, 3, 4, 6), end.out) == (True, ""), end
        assert end.err.splitlines()[-1].endswith("too long") or "too long" in end.err.splitlines()[-1], end
        assert "Traceback" not in end.err


def test_systems_whose_clock_is_at_rest_train_and_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for clock in ("perf_counter", "monotonic", "time"):
        monkeypatch.setattr(time, clock, lambda: 1.0)
    write_settings(tmp_path)
    run = start(tmp_path, tmp_path / "run")
    rows = runs.read_metrics(run)
    assert {(row.seconds, row.chars_per_second) for row in rows} == {(0.0, 0)}


def test_systems_without_locks_are_warned_of_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):

        def no_locks(_file: object, _operation: int, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", no_locks)
        opened = runs.open_run(run)
        with pytest.warns(DiskWarning, match="no locks") as caught, runs.only_writer(opened):
            runs.rewrite_settings(opened, opened.settings)
        assert len(caught) == 1


def test_systems_that_do_not_flush_folders_are_warned_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = os.fsync

    def flush_files(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(handle)

    write_settings(tmp_path)
    start(tmp_path, tmp_path / "other")
    monkeypatch.setattr(os, "fsync", flush_files)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        start(tmp_path, tmp_path / "run")
    assert [str(one.message).partition(":")[0] for one in caught] == ["this file system does not flush folders"]
    assert end_of(tmp_path / "run") == end_of(tmp_path / "other")


def test_systems_are_warned_of_in_one_line() -> None:
    program = (
        "import warnings; from charlstm.cli.terminal import prepare_streams; from charlstm.errors import DiskWarning\n"
        "prepare_streams(); warnings.warn('no locks', DiskWarning)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"charlstm: no locks\n")


def test_systems_whose_disk_fails_are_not_taken_for_those_that_cannot_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    for act in (lambda: write_file(tmp_path / "file", b""), lambda: write_folder(tmp_path / "folder", {})):
        with pytest.raises(OSError, match="Input/output error"):
            act()


def test_systems_without_enough_memory_are_told_so_and_keep_no_folder(tmp_path: Path, forks: Forks) -> None:
    config = write_settings(tmp_path)
    (tmp_path / "text.txt").write_text("abc é\n" * 200_000)
    large = ["batch_size=20000", "sequence_length=40", "shards=1"]
    settings = [word for setting in large for word in ("--set", f"training.{setting}")]
    train = ["train", str(config), "--run", "new", *settings, "--set", "model.hidden_size=64"]
    end = forks.run(train, cwd=tmp_path, more_memory_bytes=500 << 20)
    assert (end.code, end.out) == (SettingsError.exit_code, ""), end
    assert "training.batch_size" in end.err.splitlines()[-1]
    assert "Traceback" not in end.err
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "runs").exists()


def test_systems_that_can_never_hold_a_batch_say_so_before_they_try(tmp_path: Path, forks: Forks) -> None:
    write_settings(tmp_path)
    (tmp_path / "text.txt").write_bytes(b"abcd" * 10_000_000)
    large = ("training.batch_size=1000000", "training.sequence_length=30", "model.hidden_size=60000")
    end = forks.run(
        ["train", "small.yaml", "--run", "new", *(word for one in large for word in ("--set", one))], cwd=tmp_path
    )
    assert (end.code, end.err.count("\n"), "lower" in end.err) == (SettingsError.exit_code, 1, True), end
    assert not (tmp_path / "new").exists()


def test_systems_that_send_without_end_are_not_waited_for() -> None:
    """A FIFO that nobody writes to stands for a server that never answers; /dev/zero for one that never stops."""
    os.mkfifo("fifo")
    with pytest.raises(TimeoutError, match=r"not complete after 0\.05 s"):
        download(f"file://{Path('fifo').absolute()}", max_bytes=10, max_seconds=0.05)
    assert download("file:///dev/zero", max_bytes=10, max_seconds=60) == bytes(11)
    with pytest.raises(OSError, match="URLError"):
        download("file:///nothing", max_bytes=10, max_seconds=60)
    os.close(os.open("fifo", os.O_WRONLY))  # and the thread ends


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch.so: failed to map segment from shared object"),
        OSError("libgomp.so.1: failed to map segment from shared object"),  # as ctypes says it
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        MemoryError(),
    ],
)
def test_systems_without_memory_for_a_library_are_named(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    @report_errors
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        command()
    assert end.value.code == InputOutputError.exit_code
    assert "not enough memory" in capfd.readouterr().err


@pytest.mark.skipif(not shutil.which("zstd"), reason="there is no zstd here")
def test_systems_that_compress_with_a_long_window_are_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(os.urandom(1000) * 200_000)
    subprocess.run(["zstd", "-q", "--long=31", "--ultra", "text", "-o", "text.zst"], cwd=tmp_path, check=True)
    with (
        sources.open_sources(["text.zst"], cache_folder=tmp_path, data_folder=None, stdin=None) as files,
        pytest.raises(TextError, match=r"beyond 128 MB \(zstd --long\)"),
    ):
        list(read_chunks(files[0]))


def test_systems_that_ask_for_the_end_need_not_wait_for_a_long_sample(tmp_path: Path, forks: Forks) -> None:
    config = write_settings(tmp_path, validate=1)
    longer = ["--set", "training.sample_length=1000000000"]

    def stop(pid: int) -> None:
        wait_until((tmp_path / "run/metrics.jsonl").exists)  # the row of the first step, after which it samples
        time.sleep(0.2)
        os.kill(pid, signal.SIGTERM)

    end = forks.run(["train", str(config), "--run", "run", *longer], cwd=tmp_path, meanwhile=stop)
    assert end.code == 128 + signal.SIGTERM
    assert runs.read_checkpoint(runs.open_run(tmp_path / "run"), "latest").progress.step < 6
