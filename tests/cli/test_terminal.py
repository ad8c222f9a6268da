"""Streams: pipes, full and closed ones, any locale, and what is drawn on a terminal."""

import io
import json
import os
import pty
import re
import select
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from charlstm.cli.report import Report
from charlstm.cli.waiting import CLEAR_LINE, working

from ..forks import Forks, wait_until
from ..small_runs import ending
from .commands import CYRILLIC, charlstm, seen_on_a_terminal, shell, write_settings

pytestmark = pytest.mark.usefixtures("here")


def test_cli_pipes_behave(here: Path) -> None:
    done = shell('charlstm sample --length 0 | head -c 100; echo " ${PIPESTATUS[*]}"', here)
    assert done.stdout.endswith(b" 141 0\n")
    assert len(done.stdout) == 100 + len(" 141 0\n")
    assert done.stderr.startswith(b"seed ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        *("sample --seed 1", "config show", "config schema", "--help", "--version"),
        pytest.param("eval", marks=pytest.mark.long),  # which loads torch
    ],
)
@pytest.mark.parametrize(
    ("redirected", "told"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")], ids=["full", "closed"]
)
def test_cli_says_when_stdout_is_full_or_closed(here: Path, command: str, redirected: str, told: str) -> None:
    done = shell(f"charlstm {command} {redirected}", here)
    assert done.returncode == 6
    assert done.stderr.decode() == f"charlstm: could not write to standard output: {told}\n"


def test_cli_goes_on_without_stderr(here: Path, forks: Forks) -> None:
    for redirected in ("2>/dev/full", "2>&- <&-"):
        done = shell(f"charlstm sample --seed 1 {redirected} && charlstm nope {redirected}", here)
        assert (done.returncode, done.stdout) == (2, charlstm("sample", "--seed", 1).stdout_bytes)
    assert forks.run(["train", "tiny.yaml", "--run", "unheard"], cwd=here, closed=(0, 1, 2)).code == 0
    assert ending(here / "unheard") == ending(here / "runs/tiny")


def test_cli_log_has_no_control_characters(here: Path, forks: Forks) -> None:
    log = forks.run(["train", "tiny.yaml"], cwd=here).err
    assert "sample with" in log
    assert all(c.isprintable() or c == "\n" for c in log)


@pytest.mark.parametrize(
    ("locale", "trains"),
    [
        pytest.param({"LC_ALL": "C"}, True, marks=pytest.mark.long),  # training loads torch
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, False),
    ],
    ids=["C", "C without UTF-8"],
)
def test_cli_speaks_utf8_in_any_locale(here: Path, locale: dict[str, str], trains: bool) -> None:
    write_settings(here, CYRILLIC)
    train = ["train", "tiny.yaml", "--run", "прогон"]
    if not trains:
        charlstm(*train)
    commands = [" ".join(train)] if trains else ["--help >/dev/null"]
    commands += ["sample --run прогон --prompt Не --temp 0", "inspect text.txt --run прогон --html страница.html"]
    done = shell(" && ".join(f"charlstm {command}" for command in commands), here, **locale)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith("Не")
    assert (here / "страница.html").exists()
    told = done.stderr.decode().replace("'", "")
    assert ("2 × 8" in told and "sample with: charlstm sample --run прогон" in told) or not trains


def test_cli_shows_its_help_settings_and_version() -> None:
    for command in ([], ["train"], ["sample"], ["eval"], ["config"], ["config", "show"]):
        assert charlstm(*command, "--help").stdout.startswith("Usage: ")
    assert json.loads(charlstm("config", "schema").stdout)["$defs"]
    assert "training.max_steps" in charlstm("config", "reference").stdout
    assert "  max_steps: 3\n" in charlstm("config", "show", "--set", "training.max_steps=3").stdout
    assert charlstm("--version").stdout.count(".") == 2


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("columns", "figures"),
    [
        (40, {"left", "loss"}),
        (80, {"left", "loss", "bits/char", "/100"}),
        (200, {"left", "loss", "bits/char", "/100", "chars/s"}),
    ],
)
def test_train_draws_a_bar_that_fits_and_takes_it_away(
    here: Path, forks: Forks, columns: int, figures: set[str]
) -> None:
    longer = [f"training.{setting}" for setting in ("max_steps=100", "save_every_steps=100", "validate_every_steps=20")]
    train = ["train", "tiny.yaml", *(word for setting in longer for word in ("--set", setting)), "--run", "drawn"]
    seen = seen_on_a_terminal(forks, train, here, columns, NO_COLOR="1")
    assert seen.splitlines()[-1].startswith("sample with")
    drawn = [piece for piece in seen.split("\r") if re.match(r" *\d+% ", piece)]
    assert max(map(len, drawn)) <= columns
    assert len({piece.count("left") and piece.index("left") for piece in drawn}) == 1  # nothing moves
    for line in seen.splitlines():
        if "val_loss" in line and line.startswith("step"):
            assert len(line) <= columns
    assert min(piece.count("█") + piece.count(" ") for piece in drawn) >= 8
    stepped, validated = ([piece for piece in drawn if word in piece] for word in ("loss", "validating"))
    assert all(figure in piece for piece in stepped for figure in figures)
    assert stepped
    assert len(validated) >= 5


def test_commands_show_on_a_terminal_what_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("charlstm.cli.waiting.FIRST_SHOWN_SECONDS", 0.0)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with working("reading"):
        wait_until(lambda: "reading … 0 s\r" in terminal.getvalue())
    assert terminal.getvalue().endswith(CLEAR_LINE)
    with working("measuring", lambda: 0.375):
        wait_until(lambda: "measuring … 38%, 0 s\r" in terminal.getvalue())
    monkeypatch.setattr("sys.stderr", pipe := io.StringIO())
    with working("reading"):
        pass
    assert pipe.getvalue() == ""


def test_fill_on_a_terminal_looks_for_its_run_before_it_waits(here: Path, forks: Forks) -> None:
    parent, child = pty.openpty()
    end = forks.run(["fill"], cwd=here, stdin=Path(os.ttyname(child)))
    assert end.code == 4
    assert "a run that fills gaps is needed" in end.err
    train = ["train", "tiny.yaml", "--set", "model.bidirectional=true", "--set", "model.objective=cloze", "--quiet"]
    charlstm(*train)
    os.write(parent, b"T_e\n\x04")
    end = forks.run(["fill"], cwd=here, stdin=Path(os.ttyname(child)))
    os.close(parent)
    os.close(child)
    assert end.err == "type a text with _ for each gap; end it with Ctrl-D on a new line\n"
    assert re.fullmatch("T[^_]e\n", end.out)


def test_a_terminal_is_told_that_its_text_is_read_only_when_it_is(here: Path, forks: Forks) -> None:
    parent, child = pty.openpty()
    terminal = Path(os.ttyname(child))
    text = here / "text.txt"
    text.write_bytes(b"There was a time when all was well.\n" * 40)
    assert forks.run(["train", "tiny.yaml", "-", "--run", "piped", "--quiet"], cwd=here, stdin=text).code == 0
    end = forks.run(["eval", "--run", "piped", "--json"], cwd=here, stdin=terminal)
    assert (end.code, end.err) == (0, "")  # the run's own text is in the cache
    os.write(parent, b"There was a time.\n\x04")
    end = forks.run(["eval", "-", "--run", "piped", "--json"], cwd=here, stdin=terminal)
    os.close(parent)
    os.close(child)
    assert end.err == "reading the text from standard input; end it with Ctrl-D on a new line\n"
    assert json.loads(end.out)["text"] == "-"


def test_sample_interactive_on_a_terminal_stops_a_text_at_ctrl_c_and_ends_at_ctrl_d(here: Path, forks: Forks) -> None:
    parent, child = pty.openpty()
    seen = b""

    def wait_for(told: Callable[[bytes], bool]) -> None:
        """Read until what has come since the last call is as it should be."""
        nonlocal seen
        since = len(seen)
        while not told(seen[since:]):
            assert select.select([parent], [], [], 60)[0], seen
            seen += os.read(parent, 4096)

    def type_in(pid: int) -> None:
        wait_for(lambda new: new.endswith(b"> "))
        os.write(parent, b"The tide\n")
        wait_for(lambda new: len(new) > 200)  # it goes on without end
        os.kill(pid, signal.SIGINT)
        wait_for(lambda new: new.endswith(b"\n> "))
        os.write(parent, b"\x04")

    command = ["sample", "-i", "-n", "0", "-t", "0"]
    end = forks.run(command, cwd=here, terminal=os.ttyname(child), env={"TERM": "dumb"}, meanwhile=type_in)
    os.close(parent)
    os.close(child)
    assert end.code == 0
    assert b"Traceback" not in seen
    assert b"each line begins a text of its own" in seen


@pytest.mark.parametrize(("term", "redraws"), [("xterm-256color", True), ("dumb", False), ("", False)])
def test_train_draws_no_bar_where_nothing_can_be_redrawn(
    monkeypatch: pytest.MonkeyPatch, term: str, redraws: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert Report(quiet=False).terminal == redraws
