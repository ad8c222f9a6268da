"""Rows of ten expressions by `charlstm sample --match`, each checked by Python's re; fails if one does not match.

python benchmarks/valid_rows.py

The model is one of documents, trained for seconds on lines of random characters: it knows nothing of what it writes, so
that the expressions alone make rows valid.
"""

import re
import string
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter

import charlstm
from charlstm.settings import DataSettings, ModelSettings, Settings, TrainingSettings

SYMBOLS = string.printable[:95] + "ÀÉÑÖØßàçéñöøšžΑΔΩαβδωДЖИЯджияאבגشمس١٢٣日本語山田한글"
LINES, LONGEST_LINE, LONGEST_ROW, STEPS = 5_000, 30, 80, 100
BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
FIELD = '("([^"]|"")*"|[^",]*)'
ATOM = r"(Br?|Cl?|[NOPSFI]|[cnops]|\[[A-Z][a-z]?[+-]?\])[=#]?"


def nested(depth: int) -> str:
    """Atoms in a row, with branches in parentheses up to a depth."""
    return f"{ATOM}({ATOM}" + (rf"|\({nested(depth - 1)}\)" if depth else "") + ")*"


EXPRESSIONS = {
    "dates": r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])",
    "times": r"([01]\d|2[0-3])(:[0-5]\d){2}(\.\d{1,6})?(Z|[+-]\d\d:\d\d)",
    "IPv4": rf"{BYTE}(\.{BYTE}){{3}}",
    "CSV, four columns": f"{FIELD}(,{FIELD}){{3}}",
    "brackets, depth 3": nested(3),
    "Unicode names": r"[^\W\d_]{2,}([ '-][^\W\d_]{2,}){0,3}",
    "JSON objects": r'\{"id": (0|[1-9]\d{0,5}), "name": "[^"\\]*", "ok": (true|false)\}',
    "UUIDs": r"[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}",
    "any case": r"(?i)(mr|mrs|dr)\.? [a-zéßσ]+",
    "amounts": r"-?(0|[1-9]\d{0,2}(,\d{3})*)\.\d\d (USD|EUR|JPY)",
}


def train(folder: Path) -> Path:
    """A run on lines of random characters."""
    draw = Random(1)
    lines = ("".join(draw.choices(SYMBOLS, k=draw.randint(1, LONGEST_LINE))) for _ in range(LINES))
    (folder / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = Settings(
        data=DataSettings(sources=(str(folder / "lines.txt"),), documents="line"),
        model=ModelSettings(hidden_size=128),
        training=TrainingSettings(max_steps=STEPS),
    )
    with charlstm.start_session(settings, folder=folder / "run") as session:
        return session.train().run.folder


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000, help="of each expression")
    wanted = parser.parse_args().rows
    failed = False
    with TemporaryDirectory() as folder:
        run = train(Path(folder))
        print(f"{'':17} {'rows':>7} {'different':>9} {'matching':>8} {'seconds':>7} {'rows/s':>7}")
        for name, expression in EXPRESSIONS.items():
            options = ["--run", run, "--match", expression, "--samples", wanted, "--length", LONGEST_ROW, "--seed", 1]
            options += ["--quiet", "--temp", 1, "--set", "sampling.top_k=null"]  # whatever the expression allows
            command = [sys.executable, "-m", "charlstm", "sample", *map(str, options)]
            began = perf_counter()
            written = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            seconds = perf_counter() - began
            rows = written.decode("utf-8").removesuffix("\n").split("\n")
            matching = sum(re.fullmatch(expression, row) is not None for row in rows)
            failed |= not len(rows) == matching == wanted
            rate = wanted / seconds
            print(f"{name:17} {len(rows):7,} {len(set(rows)):9,} {matching:8,} {seconds:7.1f} {rate:7,.0f}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
