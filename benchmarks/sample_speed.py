"""How fast sampling is: the whole process, one stream, 64 streams, background load, threads, short texts.

python benchmarks/sample_speed.py [--quick] [--rounds N] [--json FILE]
"""

import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import measure
from measure import CHARLSTM, HERE, PYTHON, SHAPES, Shape, median, spread, target

ONE_STREAM = {"2×128": 8, "2×256": 10, "2×512": 10, "3×512": 10}
MANY_STREAMS = {"2×128": 40, "2×512": 40}


def chars_per_second(program: str, shape: Shape, seconds: float, *flags: object) -> float:
    return float(
        measure.run_json(program, "generate", *shape.flags(), "--seconds", seconds, *flags)["chars_per_second"]
    )


def whole_process(folder: Path, rounds: int) -> dict[str, list[float]]:
    """`charlstm sample --length 1000` and the plain generator's process, on a 2×128 model read from disk."""
    shape = measure.SMALL
    run = measure.untrained_run(folder / "small", shape)
    weights = folder / "plain.pt"
    make = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); from plain import CharRNN; "
        f"torch.save(CharRNN(65, {shape.embedding_size}, {shape.hidden_size}, {shape.num_layers}).state_dict(), "
        "sys.argv[2])"
    )
    subprocess.run([PYTHON, "-c", make, str(HERE), str(weights)], check=True)
    ours = [*CHARLSTM, "sample", *run, "--length", "1000", "--seed", "1"]
    plain = [PYTHON, str(HERE / "plain.py"), "process", *shape.flags(), "--weights", str(weights)]
    sides = {
        "plain": partial(measure.process_seconds, plain),
        "ours": partial(measure.process_seconds, ours),
        "first": partial(measure.first_byte_seconds, ours),
    }
    found = measure.interleaved(sides, rounds)
    whole, first, other = median(found["ours"]), median(found["first"]), median(found["plain"])
    rows = [
        ["plain generator's process", f"{other:.2f} s", spread(found["plain"]), ""],
        ["`charlstm sample --length 1000`", f"{whole:.3f} s", spread(found["ours"]), target(whole <= 0.30, "≤ 0.30 s")],
        ["… of the plain one", f"1/{other / whole:.1f}", "", target(whole <= other / 5, "≤ 1/5")],
        ["… until the first character", f"{first:.3f} s", spread(found["first"]), target(first <= 0.25, "≤ 0.25 s")],
    ]
    measure.table(["2×128, whole process", "median", "range", "target"], rows)
    return found


def streams(rounds: int, seconds: float, *, background: int) -> dict[str, Any]:
    """Characters a second against the plain generator at its best number of threads, beside so many busy processes."""
    rows, figures = [], {}
    for shape in SHAPES:
        sides = {
            "plain, 1 thread": partial(chars_per_second, "plain.py", shape, seconds, "--threads", 1),
            "plain, 2 threads": partial(chars_per_second, "plain.py", shape, seconds, "--threads", 2),
            "one": partial(chars_per_second, "ours.py", shape, seconds),
            "64": partial(chars_per_second, "ours.py", shape, seconds, "--streams", 64),
        }
        with measure.background_load(background):
            found = measure.interleaved(sides, rounds)
        figures[shape.name] = found
        best = max(median(found["plain, 1 thread"]), median(found["plain, 2 threads"]))
        one, many = median(found["one"]), median(found["64"])
        wanted = MANY_STREAMS.get(shape.name)
        rows.append(
            [
                shape.name,
                f"{median(found['plain, 1 thread']):,.0f} / {median(found['plain, 2 threads']):,.0f}",
                f"{one:,.0f} (±{spread(found['one'])})",
                f"{one / best:.1f}",
                target(one / best >= ONE_STREAM[shape.name], f"≥ {ONE_STREAM[shape.name]}"),
                f"{many:,.0f} (±{spread(found['64'])})",
                f"{many / best:.0f}",
                target(many / best >= wanted, f"≥ {wanted}") if wanted else "",
            ]
        )
    what = "chars/s" if background == 0 else f"chars/s, {background} background processes"
    head = [what, "plain, 1 / 2 threads", "one stream", "ratio", "target", "64 streams", "ratio", "target"]
    measure.table(head, rows)
    return figures


def threads(rounds: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Characters a second with one thread and with two, which `sampling_threads` chooses between; idle and loaded."""
    rows, figures = [], {}
    for background in (0, 1):
        for shape in SHAPES:
            for count in (1, 64):
                sides = {
                    f"{n}": partial(chars_per_second, "ours.py", shape, seconds, "--streams", count, "--threads", n)
                    for n in (1, 2)
                }
                with measure.background_load(background):
                    found = measure.interleaved(sides, rounds)
                one, two = median(found["1"]), median(found["2"])
                figures[f"{shape.name}, {count} streams, {background} background"] = found
                rows.append([shape.name, count, background, f"{one:,.0f}", f"{two:,.0f}", f"{two / one:.2f}"])
    head = ["shape", "streams", "background processes", "1 thread, chars/s", "2 threads, chars/s", "ratio"]
    measure.table(head, rows)
    return figures


def short_texts(folder: Path, count: int) -> dict[str, dict[str, float]]:
    """Many short samples through a pipe: speed, the wait for the first text, and the memory, which must not grow."""
    run = measure.untrained_run(folder / "texts", measure.SMALL)
    figures, rows = {}, []
    for samples in (count // 100, count):
        command = [*CHARLSTM, "sample", *run, "--samples", str(samples), "--length", "20", "--seed", "1"]
        program = (
            "import resource, subprocess, sys, time\n"
            "begin = time.perf_counter()\n"
            "process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)\n"
            "process.stdout.readline(); first = time.perf_counter() - begin\n"
            "process.stdout.read(); process.wait()\n"
            "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
            "print(first, time.perf_counter() - begin, peak / 1024)"
        )
        done = subprocess.run([PYTHON, "-c", program, *command], capture_output=True, text=True, check=True)
        first, seconds, peak = map(float, done.stdout.split())
        rows.append(
            [f"{samples:,}", f"{first:.2f} s", f"{seconds:.2f} s", f"{samples / seconds:,.0f}", f"{peak:.0f} MB"]
        )
        figures[str(samples)] = {"first": first, "seconds": seconds, "peak_mb": peak}
    measure.table(["samples of 20 characters, 2×128", "first text", "all", "texts/s", "peak memory"], rows)
    return figures


def main() -> None:
    args = measure.options(__doc__)
    rounds, seconds = args.rounds or (1 if args.quick else 5), 0.3 if args.quick else 1.0
    measure.begin("Sampling")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, Any] = {"whole process": whole_process(Path(folder), max(rounds, 3))}
        figures["idle"] = streams(rounds, seconds, background=0)
        if not args.quick:
            figures["busy"] = streams(max(1, rounds - 2), seconds, background=2)
            figures["threads"] = threads(rounds, seconds)
        figures["short texts"] = short_texts(Path(folder), 10_000)
    print(f"\nMedians of {rounds} processes a side, in turns; ± is the range. {time.perf_counter() - began:.0f} s.")
    measure.finish(args, figures)


if __name__ == "__main__":
    main()
