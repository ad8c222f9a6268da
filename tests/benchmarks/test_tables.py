"""The tables of docs/ whose rows are kept: each is what its command prints of them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("command", "page"),
    [
        (["benchmarks/ablations.py", "table"], "learning.md"),
        (["benchmarks/automatic.py", "table"], "learning.md"),
        (["-m", "benchmarks.lstm1997", "table", "benchmarks/lstm1997/rows.jsonl"], "long-memory.md"),
    ],
    ids=["ablations", "automatic", "lstm1997"],
)
def test_tables_in_the_docs_are_those_of_the_rows_that_are_kept(command: list[str], page: str) -> None:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True)
    printed = done.stdout.strip()
    assert printed.count("\n") > 5
    assert printed in (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert not done.stderr  # such as rows that are left out
