"""What the benchmarks share: the shapes, processes that print JSON, medians with their spread, tables, the machine."""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PYTHON = sys.executable
CHARLSTM = [PYTHON, "-m", "charlstm"]
VOCAB_SIZE = 65


@dataclass(frozen=True)
class Shape:
    """A model and the batch it is trained on."""

    num_layers: int
    hidden_size: int
    embedding_size: int
    batch_size: int
    sequence_length: int

    @property
    def name(self) -> str:
        return f"{self.num_layers}×{self.hidden_size}"

    @property
    def long_name(self) -> str:
        return f"{self.name}, E{self.embedding_size}, B{self.batch_size}, T{self.sequence_length}"

    def flags(self) -> list[str]:
        """The shape as `plain.py` and `ours.py` take it."""
        return [text for name, value in vars(self).items() for text in (f"--{name.replace('_', '-')}", str(value))]

    @property
    def flop_per_char(self) -> int:
        """Of a training step's matrix products: two a weight forward, four backward; layer 1 reads an embedding."""
        size, layers = self.hidden_size, self.num_layers
        weights = 4 * size * (self.embedding_size + size) + (layers - 1) * 8 * size * size + size * VOCAB_SIZE
        return 6 * weights


SHAPES = [
    Shape(2, 128, 64, 50, 50),
    Shape(2, 256, 128, 64, 128),
    Shape(2, 512, 128, 64, 128),
    Shape(3, 512, 128, 100, 128),
]
SMALL, LARGE = SHAPES[0], SHAPES[2]


def option_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark takes: --quick, --rounds, --json."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one or two short rounds: under a minute, figures rough")
    parser.add_argument("--rounds", type=int, help="how often each side is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    return parser


def options(description: str | None) -> argparse.Namespace:
    """These options, as they were given."""
    return option_parser(description).parse_args()


def run_json(program: str, *arguments: object, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a program beside this one prints as JSON, in a process of its own."""
    done = subprocess.run(
        [PYTHON, str(HERE / program), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{program} {arguments} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_processes(
    commands: Sequence[Sequence[str]], address: str = "127.0.0.1", devices: str = "lo", *, one_machine: bool = True
) -> dict[str, Any]:
    """What the first of several programs prints as JSON, which meet at an address as torchrun would have them.

    devices: the network device of each, with {} where its rank stands. one_machine: else each is told it has its own.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank, command in enumerate(commands):
        beside = len(commands) if one_machine else 1
        place = {"RANK": rank, "WORLD_SIZE": len(commands), "LOCAL_RANK": rank % beside, "LOCAL_WORLD_SIZE": beside}
        meeting = {"MASTER_ADDR": address, "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": devices.format(rank)}
        env = {**os.environ, **{name: str(value) for name, value in {**place, **meeting}.items()}}
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    first, *_ = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"{commands} failed")
    found: dict[str, Any] = json.loads(first.splitlines()[-1])
    return found


def interleaved(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each side's figure of every round; the sides take turns, so that what disturbs the machine disturbs both."""
    figures: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(list(sides)):
            figures[side].append(sides[side]())
    return figures


def process_seconds(command: Sequence[str]) -> float:
    """How long a whole process takes."""
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def first_byte_seconds(command: Sequence[str]) -> float:
    """How long a process takes until something stands on its stdout."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        seconds = time.perf_counter() - begin
        process.stdout.read()
    return seconds


@contextmanager
def background_load(count: int) -> Iterator[None]:
    """`count` processes that spin meanwhile."""
    spinners = [subprocess.Popen([PYTHON, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def median(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def spread(figures: Sequence[float]) -> str:
    """How far the figures lie apart: the range as a fraction of the median; unknown for a single one."""
    if len(figures) == 1:
        return "?"
    return f"{(max(figures) - min(figures)) / median(figures):.0%}"


def target(met: bool, wanted: str) -> str:
    """A target and whether it was met."""
    return f"{wanted} {'✓' if met else '✗'}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print("\n| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def machine() -> str:
    """One line on what this ran on and how busy it was."""
    names = ("model name", "Hardware", "Model")
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    found = [line.partition(":")[2].strip() for line in lines if line.partition("\t")[0].strip() in names]
    processor = found[0] if found else platform.processor() or platform.machine()
    versions = " · ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "charlstm"))
    load = f"load {os.getloadavg()[0]:.1f}"
    return f"{processor}, {os.cpu_count()} cores, {load} · Python {platform.python_version()} · {versions}"


def begin(title: str) -> None:
    """Print the heading and the machine."""
    print(f"## {title}\n\n{time.strftime('%Y-%m-%d')} · {machine()}", flush=True)


def finish(args: argparse.Namespace, figures: Any) -> None:
    """Write the figures as JSON if that was asked for."""
    if args.json:
        args.json.write_text(
            json.dumps({"machine": machine(), "figures": figures}, indent=1, ensure_ascii=False) + "\n"
        )


def untrained_run(folder: Path, shape: Shape) -> list[str]:
    """Make a run folder that holds a model of random weights; returns the options that name it to charlstm."""
    from charlstm.runs import Checkpoint, Progress, TextIdentity, create_run, save_checkpoint
    from charlstm.settings import ModelSettings, Settings
    from charlstm.weights import weight_shapes

    settings = Settings(
        model=ModelSettings(
            embedding_size=shape.embedding_size,
            hidden_size=shape.hidden_size,
            num_layers=shape.num_layers,
            skip_connections=False,  # the model of plain.py
        )
    )
    vocab = random_vocab()
    weights = random_weights(weight_shapes(settings.model, vocab.size))
    run = create_run(folder, settings, vocab, TextIdentity("0" * 64), name="benchmark")
    save_checkpoint(run, Checkpoint(weights, {}, Progress(step=1)), is_best=True)
    return ["--run", str(folder)]


def random_vocab() -> Any:
    """A vocabulary of 65 characters with a line end."""
    from charlstm.text import Vocab

    symbols = ("\n", *(chr(code) for code in range(32, 32 + VOCAB_SIZE - 1)))
    return Vocab(unit="char", symbols=symbols, unknown="error", newline="keep", has_unknown_symbol=False)


def random_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Weights as a trained model might have them, by size."""
    import numpy as np

    rng = np.random.default_rng(1)
    return {name: rng.normal(scale=0.1, size=shape).astype(np.float32) for name, shape in shapes.items()}
