"""What bf16 costs in quality: validation losses of the same seeds in both precisions, on tinyshakespeare.

    python benchmarks/precision.py [--steps 2000] [--seeds 3] [--json FILE]

Each run is a `charlstm train` of configs/tinyshakespeare-minute.yaml with a number of steps in place of the minute; its
last checkpoint's loss is that of `charlstm eval`, which computes in float32, so that training alone differs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

CONFIG = Path(__file__).parent.parent / "configs" / "tinyshakespeare-minute.yaml"
PRECISIONS = ("fp32", "bf16")
TARGET = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    measure.begin("Precision")
    losses: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    rows = []
    for seed in range(1, args.seeds + 1):
        for precision in PRECISIONS:
            with tempfile.TemporaryDirectory() as folder:
                losses[precision].append(validation_loss(Path(folder) / "run", precision, seed, args.steps))
        fp32, bf16 = (losses[precision][-1] for precision in PRECISIONS)
        rows.append([seed, f"{fp32:.4f}", f"{bf16:.4f}", f"{bf16 / fp32 - 1:+.2%}"])
    fp32, bf16 = (statistics.fmean(losses[precision]) for precision in PRECISIONS)
    met = measure.target(abs(bf16 / fp32 - 1) <= TARGET, f"within {TARGET:.1%}")
    rows.append(["mean", f"{fp32:.4f}", f"{bf16:.4f}", f"{bf16 / fp32 - 1:+.2%}, {met}"])
    measure.table(["seed", "fp32, nats per character", "bf16", "difference"], rows)
    print(f"\nValidation losses after {args.steps:,} steps.")
    measure.finish(args, losses)


def validation_loss(folder: Path, precision: str, seed: int, steps: int) -> float:
    """Nats per character on the validation part, of a run with these settings."""
    settings = {
        "training.precision": precision,
        "training.seed": seed,
        "training.max_steps": steps,
        "training.validate_every_steps": steps,
        "training.threads": 1,  # so that whoever else is busy here changes nothing but the time
    }
    changes = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    charlstm = [sys.executable, "-m", "charlstm"]
    subprocess.run([*charlstm, "train", str(CONFIG), "--run", str(folder), "--quiet", *changes], check=True)
    done = subprocess.run([*charlstm, "eval", "--run", str(folder), "--json"], check=True, capture_output=True)
    loss: float = json.loads(done.stdout)["loss"]
    return loss


if __name__ == "__main__":
    main()
