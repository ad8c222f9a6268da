"""Streams: pipes, full and closed ones, any locale, and what is drawn on a terminal."""

import io
import json
from pathlib import Path

import pytest

from charlstm.cli.report import Report

from ..forks import Forks
from ..small_runs import ending
from .commands import CYRILLIC, charlstm, seen_on_a_terminal, shell, write_settings

pytestmark = pytest.mark.usefixtures("here")


def test_cli_pipes_behave(here: Path) -> None:
    done = shell('charlstm sample --length 0 | head -c 100; echo " ${PIPESTATUS[*]}"', here)
    assert done.stdout.endswith(b" 141 0\n")
    assert len(done.stdout) == 100 + len(" 141 0\n")
    assert done.stderr.startswith(b"seed ")
    assert done.stderr.count(b"\n") == 1
    done = shell("charlstm sample --length 800 | charlstm eval - --json", here)
    assert json.loads(done.stdout)["chars"] in (799, 800)


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


def test_cli_goes_on_without_stderr(here: Path) -> None:
    for redirected in ("2>&-", "2>/dev/full", "2>&- <&-"):
        done = shell(f"charlstm sample --seed 1 {redirected} && charlstm nope {redirected}", here)
        assert (done.returncode, done.stdout) == (2, charlstm("sample", "--seed", 1).stdout_bytes)
    assert shell("charlstm train tiny.yaml --run unheard >&- 2>&- <&-", here).returncode == 0
    assert ending(here / "unheard") == ending(here / "runs/tiny")


def test_cli_log_has_no_control_characters(here: Path, forks: Forks) -> None:
    log = forks.run(["train", "tiny.yaml"], cwd=here).err
    assert "sample with" in log
    assert all(c.isprintable() or c == "\n" for c in log)


@pytest.mark.parametrize(
    "locale",
    [
        pytest.param({"LC_ALL": "C"}, marks=pytest.mark.long),
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["C", "C without UTF-8"],
)
def test_cli_speaks_utf8_in_any_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    write_settings(tmp_path, CYRILLIC)
    commands = ("--help >/dev/null", "train tiny.yaml --run прогон", "sample --run прогон --prompt Не --temp 0")
    done = shell(" && ".join(f"charlstm {command}" for command in commands), tmp_path, **locale)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith("Не")
    assert "2 × 8" in done.stderr.decode()
    assert "sample with: charlstm sample --run прогон" in done.stderr.decode().replace("'", "")


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


def test_train_draws_a_bar_on_a_terminal_and_takes_it_away(here: Path, forks: Forks) -> None:
    longer = [f"training.{setting}" for setting in ("max_steps=100", "save_every_steps=100", "validate_every_steps=50")]
    train = ["train", "tiny.yaml", *(word for setting in longer for word in ("--set", setting)), "--run"]
    wide = seen_on_a_terminal(forks, [*train, "wide"], here, 120)
    assert "bits/char" in wide
    assert "chars/s" in wide
    assert wide.splitlines()[-1].startswith("sample with")
    narrow = seen_on_a_terminal(forks, [*train, "narrow"], here, 40, NO_COLOR="1")
    bars = [piece for piece in narrow.split("\r") if "left  loss" in piece and "\n" not in piece]
    assert bars
    assert max(map(len, bars)) <= 40


@pytest.mark.parametrize(("term", "redraws"), [("xterm-256color", True), ("dumb", False), ("", False)])
def test_train_draws_no_bar_where_nothing_can_be_redrawn(
    monkeypatch: pytest.MonkeyPatch, term: str, redraws: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert Report(quiet=False).terminal == redraws
