"""How long the program takes to be there: `--help`, and the first characters of a sample, beside an empty Python.

python benchmarks/startup.py [--quick] [--rounds N] [--json FILE]
"""

import subprocess
import tempfile
from functools import partial
from pathlib import Path

import measure
from measure import CHARLSTM, PYTHON, median, spread, target

WITHOUT_TORCH = """
import sys
from charlstm.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
assert "torch" not in sys.modules, "torch was loaded"
"""


def main() -> None:
    args = measure.options(__doc__)
    rounds = args.rounds or (5 if args.quick else 21)
    measure.begin("Startup")
    with tempfile.TemporaryDirectory() as folder:
        run = measure.untrained_run(Path(folder) / "run", measure.SMALL)
        sample = ["sample", *run, "--length", "1", "--seed", "1"]
        commands = {
            "`python -c pass`": [PYTHON, "-c", "pass"],
            "`python -c 'import numpy'`": [PYTHON, "-c", "import numpy"],
            "`charlstm --help`": [*CHARLSTM, "--help"],
            "`charlstm sample --length 1`": [*CHARLSTM, *sample],
        }
        if not args.quick:
            commands["`python -c 'import torch'`"] = [PYTHON, "-c", "import torch"]
        for arguments in (["--help"], sample):
            subprocess.run([PYTHON, "-c", WITHOUT_TORCH, *arguments], check=True, capture_output=True)
        found = measure.interleaved(
            {name: partial(measure.process_seconds, command) for name, command in commands.items()}, rounds
        )
    nothing = median(found["`python -c pass`"])
    rows = []
    for name, seconds in found.items():
        more = median(seconds) - nothing
        wanted = target(more <= 0.15, "≤ 0.150 s more") if name == "`charlstm --help`" else ""
        rows.append([name, f"{median(seconds):.3f} s", f"{more:+.3f} s", spread(seconds), wanted])
    measure.table(["2×128", "median", "more than nothing", "range", "target"], rows)
    print(f"\nMedian of {rounds} processes each, in turns. Neither `--help` nor `sample` has loaded torch.")
    measure.finish(args, found)


if __name__ == "__main__":
    main()
