"""Autotuning: the shards, the threads of each and the precision that train fastest here, measured and remembered.

Letters: `T` steps, `B` lanes.
"""

import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from charlstm.environment import available_cores, load_average
from charlstm.errors import RunError, is_out_of_memory
from charlstm.files import read_bounded, write_file
from charlstm.machine.shards import Shards

MAX_CACHE_BYTES = 1_000_000
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MEASURED_FLOP = 8e9  # of a pass, about; with fewer steps than 16 what a pass costs once would count too much
MEASURED_STEPS = (16, 32)  # T, at least and at most
ROUNDS = 3  # in turns, so that what else the machine does for a moment falls on all tunings alike
WORTH_ANOTHER = 1.3  # of the fastest one's seconds, above which a tuning is not measured again


class Tuning(NamedTuple):
    """One way to compute a step."""

    shards: int
    threads_per_shard: int
    precision: str


Pass: TypeAlias = Callable[[int, int, torch.dtype], object]  # forward and backward: T, B, precision


class Work(NamedTuple):
    """What is measured: passes of a run's own model, or of one like it."""

    name: str  # of the model, by which what was measured is remembered
    flop_per_char: int
    build_pass: Callable[[torch.device], Pass]


@dataclass(frozen=True)
class Probe:
    """Work on some lanes of a machine."""

    work: Work
    lanes: int
    device: torch.device
    threads: int | str  # `training.threads`
    cores: int

    @property
    def steps(self) -> int:
        """T of a pass."""
        least, most = MEASURED_STEPS
        return max(least, min(most, int(MEASURED_FLOP / (self.work.flop_per_char * self.lanes))))

    @property
    def flop(self) -> int:
        """Floating-point operations of a pass."""
        return self.work.flop_per_char * self.lanes * self.steps

    @cached_property
    def compute(self) -> Pass:
        return self.work.build_pass(self.device)

    def seconds(self, tuning: Tuning) -> float:
        """The faster of two passes, infinite where they cannot be done."""
        compute = self.compute

        def pass_through(_shard: int, lanes: slice) -> None:
            compute(self.steps, lanes.stop - lanes.start, DTYPES[tuning.precision])

        threads = threads_at_once(self.threads, self.cores, tuning.threads_per_shard)
        shards = Shards(tuning.shards, threads=threads, threads_per_shard=tuning.threads_per_shard)
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            try:
                shards.map(pass_through, self.lanes)
            except RuntimeError as error:  # oneDNN refuses bf16 on processors without the instructions
                if is_out_of_memory(error):
                    raise
                return math.inf
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seconds.append(time.perf_counter() - begin)
        return min(seconds[1:])  # the first one also builds oneDNN's kernel


def threads_at_once(asked: int | str, cores: int, threads_per_shard: int) -> int:
    """How many shards are computed at the same time. asked: `training.threads`."""
    return int(asked) if asked != "auto" else max(1, cores // threads_per_shard)


def find_fastest(tunings: Sequence[Tuning], probe: Probe, *, cache: Path | None) -> Tuning | None:
    """The fastest of some tunings here, None if the probe can do none of them.

    What was measured on an idle machine is remembered in the file `cache`, so that the next run here is tuned the same.
    """
    shape = f"{probe.work.name} {probe.lanes} lanes, {probe.threads} threads, {probe.cores} cores"
    key = f"{platform.node()} {probe.device} torch {torch.__version__} {shape} {list(map(tuple, tunings))}"
    remembered = _read_cache(cache).get(key) if cache is not None else None
    for tuning in tunings:
        if remembered == list(tuning):
            return tuning
    found: dict[Tuning, list[float]] = {tuning: [] for tuning in tunings}
    left = list(tunings)
    for _ in range(ROUNDS):
        for tuning in left:
            found[tuning].append(probe.seconds(tuning))
        least = min(found[tuning][-1] for tuning in left)
        if math.isinf(least):
            return None
        left = [tuning for tuning in left if found[tuning][-1] <= WORTH_ANOTHER * least]
        if len(left) == 1:
            break
    fastest = min(left, key=lambda tuning: statistics.median(found[tuning]))
    idle = load_average() < available_cores() / 2
    if cache is not None and idle:  # on a busy machine, what is fastest now is not what will be
        with suppress(OSError):  # a cache that cannot be written costs the next run a moment
            cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(cache, json.dumps({**_read_cache(cache), key: fastest}, indent=1).encode())
    return fastest


def _read_cache(cache: Path) -> dict[str, Any]:
    try:
        entries = json.loads(read_bounded(cache, MAX_CACHE_BYTES))
    except (RunError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}
