"""Every cell on tinyshakespeare: training loss after the same seconds, and after the same number of steps.

    python benchmarks/cells.py [--seconds 60] [--json FILE]

One `charlstm train` a cell, one after the other, by configs/tinyshakespeare-minute.yaml, but with a constant
learning rate, so that no schedule ends earlier for one than for another, and on the whole text. A loss is the mean of
the lines of metrics of the last 50 steps.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

from charlstm.settings import CellName

CONFIG = Path(__file__).parent.parent / "configs" / "tinyshakespeare-minute.yaml"
STEPS_AVERAGED, LOG_EVERY = 50, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        metrics = {cell: train(cell, Path(folder) / cell, options.seconds) for cell in get_args(CellName)}
    common = min(lines[-1]["step"] for lines in metrics.values())
    rows = [
        {
            "cell": cell,
            "steps": lines[-1]["step"],
            "loss_after_seconds": loss_at(lines, lines[-1]["step"]),
            "loss_after_steps": loss_at(lines, common),
            "chars_per_second": round(statistics.median(line["chars_per_second"] for line in lines)),
        }
        for cell, lines in metrics.items()
    ]
    within = f"{options.seconds:g} s"
    print(f"| cell | chars/s | steps in {within} | loss after {within} | loss after {common} steps |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['cell']} | {row['chars_per_second']:,} | {row['steps']:,} "
            f"| {row['loss_after_seconds']:.3f} | {row['loss_after_steps']:.3f} |"
        )
    if options.json is not None:
        options.json.write_text(
            json.dumps({"seconds": options.seconds, "common_steps": common, "rows": rows}, indent=1)
        )


def train(cell: str, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Train one cell for so many seconds; its lines of metrics."""
    settings = [
        f"model.cell={cell}",
        "training.schedule=constant",
        f"training.log_every_steps={LOG_EVERY}",
        "training.threads=1",  # so that whoever else is busy here takes from none of them
        "training.max_steps=1000000",  # so that the clock, and not an estimate from it, ends the run
        f"training.max_minutes={seconds / 60}",
        "training.validate_every_steps=1000000",
        "data.split=[1, 0, 0]",
    ]
    command = [sys.executable, "-m", "charlstm", "train", str(CONFIG), "--run", str(folder), "--quiet"]
    subprocess.run([*command, *(word for setting in settings for word in ("--set", setting))], check=True)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["step"] % LOG_EVERY == 0]  # as the others have


def loss_at(lines: list[dict[str, Any]], step: int) -> float:
    """Mean training loss, in nats per character, over the logged ones of the last steps before a step."""
    return statistics.fmean(line["loss"] for line in lines if step - STEPS_AVERAGED < line["step"] <= step)


if __name__ == "__main__":
    main()
