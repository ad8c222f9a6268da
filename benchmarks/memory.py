"""How much memory training takes, beside the plain trainer; and that a corpus a thousand times larger changes nothing.

python benchmarks/memory.py [--quick] [--rounds N] [--json FILE]
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
from measure import PYTHON, SHAPES, Shape, median, target

MB = 1_000_000

ENCODE = """
import json, resource, sys, time
from pathlib import Path
from charlstm.settings import DataSettings
from charlstm.text import prepare_corpus
begin = time.perf_counter()
data = DataSettings(sources=(sys.argv[1],))
corpus = prepare_corpus(data, cache_folder=Path(sys.argv[2]), data_folder=None, stdin=None)
seconds = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds, "peak": peak, "ids": str(corpus.ids.filename), "chars": corpus.chars}))
"""


def peaks(shapes: list[Shape], rounds: int) -> dict[str, Any]:
    """Peak resident memory of a training process, ours and the plain one."""
    rows, figures = [], {}
    for shape in shapes:
        found: dict[str, list[float]] = {"plain": [], "ours": []}
        for _ in range(rounds):
            for side, peaks_of_side in found.items():
                facts = measure.run_json(f"{side}.py", "train", *shape.flags(), "--warmup-steps", 2, "--steps", 4)
                peaks_of_side.append(facts["peak_rss_bytes"] / MB)
        figures[shape.name] = found
        plain, ours = median(found["plain"]), median(found["ours"])
        rows.append(
            [
                shape.long_name,
                f"{plain:,.0f} MB",
                f"{ours:,.0f} MB",
                f"{ours / plain:.2f}",
                target(ours <= 1.2 * plain, "≤ 1.2"),
            ]
        )
    measure.table(["peak resident memory", "plain", "ours", "ratio", "target"], rows)
    return figures


def corpora(folder: Path, sizes: dict[str, int], rounds: int) -> dict[str, Any]:
    """A text of each size through the program's own reading, then training on the ids it left on disk."""
    shape = SHAPES[1]
    encoded = {name: encode(folder, size) for name, size in sizes.items()}
    found: dict[str, dict[str, list[float]]] = {name: {"speed": [], "peak": []} for name in sizes}
    for _ in range(rounds):
        for name, facts in encoded.items():
            trained = measure.run_json("ours.py", "train", *shape.flags(), "--steps", 12, "--ids", facts["ids"])
            per_step = shape.batch_size * shape.sequence_length
            found[name]["speed"].append(per_step / median(trained["step_seconds"]))
            found[name]["peak"].append(trained["peak_rss_bytes"] / MB)
    rows = [
        [
            name,
            f"{encoded[name]['seconds']:.1f} s ({sizes[name] / encoded[name]['seconds'] / MB:.0f} MB/s)",
            f"{encoded[name]['peak'] / MB:.0f} MB",
            f"{median(found[name]['speed']):,.0f}",
            f"{median(found[name]['peak']):,.0f} MB",
        ]
        for name in sizes
    ]
    head = ["text", "read and encoded in", "peak meanwhile", f"training {shape.name}, chars/s", "peak meanwhile"]
    measure.table(head, rows)
    return {"encoded": encoded, "trained": found}


def encode(folder: Path, size: int) -> dict[str, Any]:
    """Write a text of this size, have it read, remove it; returns where the ids are and what it took."""
    path = folder / f"{size}.txt"
    block = "".join(chr(32 + (number * number + number // 7) % measure.VOCAB_SIZE) for number in range(MB)).encode()
    with path.open("wb") as file:
        for number in range(size // MB):
            file.write(block[number:] + block[:number])
    done = subprocess.run(
        [PYTHON, "-c", ENCODE, str(path), str(folder / "cache")], capture_output=True, text=True, check=True
    )
    path.unlink()
    return dict(json.loads(done.stdout))


def main() -> None:
    args = measure.options(__doc__)
    rounds, began = args.rounds or (1 if args.quick else 3), time.perf_counter()
    measure.begin("Memory")
    figures: dict[str, Any] = {"peaks": peaks(SHAPES[:2] if args.quick else SHAPES, rounds)}
    sizes = {"1 MB": MB, "100 MB": 100 * MB} if args.quick else {"1 MB": MB, "1 GB": 1000 * MB}
    with tempfile.TemporaryDirectory() as folder:
        figures["corpora"] = corpora(Path(folder), sizes, rounds)
    print(f"\nMedians of {rounds}. {time.perf_counter() - began:.0f} s.")
    measure.finish(args, figures)


if __name__ == "__main__":
    main()
