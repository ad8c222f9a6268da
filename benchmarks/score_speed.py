"""How fast lines are scored, beside torch: a line at a time, and in batches; and the memory of a long stream.

python benchmarks/score_speed.py [--quick] [--rounds N] [--json FILE]

Both torch loops are those one would write: the model of plain.py, log_softmax, gather. One line at a time takes
the shortest code; batches of 128 lines, in their order and sorted by length, pad to the longest line. Each side has
as many threads as it takes by default, and its fastest of the two torch batches is compared.
"""

import random
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import measure
from measure import CHARLSTM, PYTHON, SHAPES, Shape, median, spread, target

CHARS = (20, 121)  # of a line, equally likely
BATCH = 128
STREAM_CHARS = 20


def made_up_lines(count: int) -> list[bytes]:
    rng = random.Random(1)
    return [bytes(rng.randrange(32, 96) for _ in range(rng.randrange(*CHARS))) for _ in range(count)]


def ours(shape: Shape, count: int) -> float:
    """Lines a second of `charlstm.inference.LineScorer`, from bytes to nats, on the threads of `charlstm score`."""
    from charlstm import environment

    cores = environment.limit_numpy_threads()
    from charlstm.inference import LineScorer
    from charlstm.settings import ModelSettings
    from charlstm.weights import weight_shapes

    settings = ModelSettings(
        embedding_size=shape.embedding_size,
        hidden_size=shape.hidden_size,
        num_layers=shape.num_layers,
        skip_connections=False,
    )
    vocab = measure.random_vocab()
    weights = measure.random_weights(weight_shapes(settings, vocab.size))
    scorer = LineScorer(weights, settings, vocab, threads=cores)
    lines = made_up_lines(count)
    scorer.score(lines[:BATCH])
    begin = time.perf_counter()
    scorer.score(lines)
    return count / (time.perf_counter() - begin)


def plain(shape: Shape, count: int, batch: int, *, ordered: bool) -> float:
    """Lines a second of torch's model, so many lines at once."""
    import torch
    from plain import CharRNN
    from torch.nn.utils.rnn import pad_sequence

    model = CharRNN(measure.VOCAB_SIZE, shape.embedding_size, shape.hidden_size, shape.num_layers).eval()
    lines = made_up_lines(count)

    @torch.no_grad()
    def score(lines: list[bytes]) -> list[float]:
        if ordered:
            lines = sorted(lines, key=len)
        found: list[float] = []
        for first in range(0, len(lines), batch):
            ids = [torch.tensor([0, *(code - 31 for code in line), 0]) for line in lines[first : first + batch]]
            padded = pad_sequence(ids, batch_first=True, padding_value=-1)
            inputs, targets = padded[:, :-1].clamp(min=0), padded[:, 1:]
            logits, _ = model(inputs)
            nats = -logits.log_softmax(-1).gather(2, targets.clamp(min=0)[:, :, None])[:, :, 0]
            found += (nats * (targets >= 0)).sum(1).tolist()
        return found

    score(lines[:batch])
    begin = time.perf_counter()
    score(lines)
    return count / (time.perf_counter() - begin)


def of_process(side: str, shape: Shape, count: int) -> float:
    """Lines a second of one side, in a process of its own."""
    return float(measure.run_json("score_speed.py", "side", side, SHAPES.index(shape), count)["lines_per_second"])


def print_side(side: str, number: int, count: int) -> None:
    shape = SHAPES[number]
    if side == "ours":
        speed = ours(shape, count)
    else:
        speed = plain(shape, count, 1 if side == "one" else BATCH, ordered=side == "sorted")
    print(f'{{"lines_per_second": {speed}}}')


def speeds(rounds: int, *, quick: bool) -> dict[str, Any]:
    """Lines a second of every side."""
    rows, figures = [], {}
    for shape in SHAPES[:2]:
        many, few = (512, 64) if quick else (4096, 200)
        counts = {"one": few, "batches": many, "sorted": many, "ours": many}
        found = measure.interleaved(
            {side: partial(of_process, side, shape, count) for side, count in counts.items()}, rounds
        )
        figures[shape.name] = found
        one, batches, ordered, own = (median(found[side]) for side in counts)
        best = max(batches, ordered)
        rows.append(
            [
                shape.name,
                f"{one:,.0f}",
                f"{batches:,.0f} / {ordered:,.0f}",
                f"{own:,.0f} (±{spread(found['ours'])})",
                f"{own / one:.0f}",
                target(own >= 20 * one, "≥ 20"),
                f"{own / best:.2f}",
                target(own >= best, "≥ 1"),
            ]
        )
    head = ["lines/s", "torch, one by one", "torch, batches / sorted", "ours", "ratio", "target", "ratio", "target"]
    measure.table(head, rows)
    return figures


def memory(folder: Path, count: int) -> dict[str, float]:
    """Peak memory of a whole `charlstm score` over streams of two sizes."""
    run = measure.untrained_run(folder / "tiny", Shape(1, 32, 16, 1, 1))
    figures, rows = {}, []
    for lines in (count // 100, count):
        program = (
            "import resource, subprocess, sys, time\n"
            f"make = 'for _ in range({lines}): print(\"A\" * {STREAM_CHARS})'\n"
            "lines = subprocess.Popen([sys.executable, '-c', make], stdout=subprocess.PIPE)\n"
            "begin = time.perf_counter()\n"
            "out = subprocess.Popen(sys.argv[1:], stdin=lines.stdout, stdout=subprocess.PIPE)\n"
            "count = sum(piece.count(b'\\n') for piece in iter(lambda: out.stdout.read1(1 << 16), b''))\n"
            f"assert out.wait() == 0 and count == {lines}\n"
            "print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
        )
        done = subprocess.run(
            [PYTHON, "-c", program, *CHARLSTM, "score", *run], capture_output=True, text=True, check=True
        )
        seconds, peak = map(float, done.stdout.split())
        rows.append([f"{lines:,}", f"{seconds:.1f} s", f"{lines / seconds:,.0f}", f"{peak:.0f} MB"])
        figures[str(lines)] = peak
    measure.table([f"lines of {STREAM_CHARS} characters, 1×32", "all", "lines/s", "peak memory"], rows)
    return figures


def main() -> None:
    if sys.argv[1:2] == ["side"]:
        print_side(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    args = measure.options(__doc__)
    measure.begin("Scoring")
    figures: dict[str, Any] = {"speeds": speeds(args.rounds or (1 if args.quick else 5), quick=args.quick)}
    with tempfile.TemporaryDirectory() as folder:
        figures["memory"] = memory(Path(folder), 100_000 if args.quick else 1_000_000)
    measure.finish(args, figures)


if __name__ == "__main__":
    main()
