"""What the tests of the command line share: running commands, a small training run, and what it leaves."""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from charlstm.cli import app

from ..forks import Forks
from ..small_runs import SETTINGS

DATA = Path(__file__).parents[2] / "data"
STEPS = 12
CYRILLIC = (DATA / "proverbs-ru.txt").read_text()[:2000]


def charlstm(*args: object, stdin: bytes | str | None = None, expect: int = 0) -> Result:
    """Run a command in this process and in the current folder; it must end with the expected code."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)
    assert result.exit_code == expect, (args, result.stderr, result.exception)
    return result


def shell(line: str, folder: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which `charlstm` is this program."""
    program = f'charlstm() {{ {sys.executable} -W error -m charlstm "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", program], cwd=folder, env={**os.environ, **env}, capture_output=True)


def seen_on_a_terminal(forks: Forks, command: Sequence[str], folder: Path, columns: int, **env: str) -> str:
    """What a command writes to a terminal of so many columns."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    seen = b""

    def watch(_pid: int) -> None:
        nonlocal seen
        assert select.select([parent], [], [], 60)[0]
        os.close(child)  # the command has opened it
        with suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(parent, 4096):
                seen += piece

    end = forks.run(command, cwd=folder, terminal=os.ttyname(child), env={"TERM": "xterm", **env}, meanwhile=watch)
    os.close(parent)
    assert end.code == 0, seen
    return seen.decode()


def write_settings(folder: Path, text: str | bytes, *, steps: int = STEPS) -> Path:
    """A text, and settings for a run on it that takes no time."""
    (folder / "text.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    sizes = {"split": [0.8, 0.1, 0.1], "lanes": 4, "length": 16}
    tiny = SETTINGS.format(text="text.txt", steps=steps, validate=4, save=3, **sizes)
    (folder / "tiny.yaml").write_text(tiny)
    return folder / "tiny.yaml"


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
