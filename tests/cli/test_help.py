"""Help: whole sentences at every width, short options, and completion in a shell."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from charlstm.cli import app

from ..forks import Forks
from .commands import charlstm, seen_on_a_terminal

ROOT = Path(__file__).parents[2]
COMMANDS = ("train", "sample", "runs", "eval", "fill", "inspect", "plot", "trace", "config", "config show")


def words(text: str) -> str:
    """The words of a help text, whatever it is broken into and framed with."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", re.sub(r"\x1b\[[0-9;]*m", "", text)).split())


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_any_width_and_cuts_no_sentence(monkeypatch: pytest.MonkeyPatch, columns: int, command: str) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    told = charlstm(*command.split(), "-h").stdout
    assert told == charlstm(*command.split(), "--help").stdout
    assert max(map(len, told.splitlines())) <= min(columns, 100)
    assert "..." not in told.replace("[ARGS]...", "").replace("[TEXT]...", "").replace("[RUN]...", "")
    if not command:
        for function in app.registered_commands:
            assert function.callback is not None
            assert words((function.callback.__doc__ or "").partition("\n")[0]) in words(told)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_help_on_a_terminal_is_drawn_by_rich_where_there_is_room(tmp_path: Path, forks: Forks, columns: int) -> None:
    told = seen_on_a_terminal(forks, ["sample", "-h"], tmp_path, columns)
    assert ("╭" in told) == (columns >= 80)
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in told.splitlines()) <= columns
    if columns == 200:  # where each sentence has a line of its own
        assert "Draw among the K likeliest characters." in words(told)


def test_help_names_short_options_that_do_the_same() -> None:
    for short, long in (("-n", "--length"), ("-t", "--temp"), ("-k", "--top-k"), ("-p", "--prompt"), ("-q", "--quiet")):
        assert re.search(rf"^  {short}, {long}\b", charlstm("sample", "-h").stdout, re.MULTILINE)


def test_completion_in_bash_offers_commands_and_options(tmp_path: Path) -> None:
    """As readline would: the function that the script defines, called for a line that is being typed."""
    (tmp_path / "charlstm").write_text(f'#!/bin/sh\nexec {sys.executable} -m charlstm "$@"\n')
    (tmp_path / "charlstm").chmod(0o755)
    script = (
        'eval "$(charlstm --show-completion)"\n'
        'COMP_WORDS=(charlstm sa) COMP_CWORD=1; _charlstm_completion charlstm; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(charlstm sample --sep) COMP_CWORD=2; _charlstm_completion charlstm; echo "${COMPREPLY[@]}"\n'
        "complete -p charlstm"
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "sample",
        "--separator",
        "complete -o default -F _charlstm_completion charlstm",
    ], done.stderr


def test_requirements_to_read_are_those_of_the_package_without_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements-read.txt").read_text().splitlines()
    needed = [need for need in project["dependencies"] if not need.startswith("torch")]
    assert [line for line in lines if not line.startswith("#")] == needed
    assert len(needed) == len(project["dependencies"]) - 1


def test_without_torch_runs_are_read_and_training_says_what_to_install(here: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; from charlstm.cli import main; main()"

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *command.split()], cwd=here, capture_output=True, text=True, check=False
        )

    for command in ("sample -n 5", "inspect --units", "runs", "plot"):
        assert run(command).returncode == 0
    for command in ("train tiny.yaml --run new", "eval"):
        done = run(command)
        assert done.returncode == 2
        assert done.stderr.startswith("charlstm: training, measuring and gradients need torch")
        assert done.stderr.count("\n") == 1
    assert not (here / "new").exists()
