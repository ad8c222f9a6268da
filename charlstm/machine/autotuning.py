"""Autotuning: the shards, the threads of each and the precision that train fastest here, measured and remembered.

Letters: `T` steps, `B` lanes, `H` hidden.
"""

import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from charlstm.environment import available_cores, load_average
from charlstm.errors import RunError
from charlstm.files import read_bounded, write_file
from charlstm.machine.shards import Shards

MAX_CACHE_BYTES = 1_000_000
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MEASURED_STEPS = 8  # characters a lane in the probe
ROUNDS = 2  # in turns, so that what else the machine does for a moment falls on all tunings alike


class Tuning(NamedTuple):
    """One way to compute a step."""

    shards: int
    threads_per_shard: int
    precision: str


BuildLayer: TypeAlias = Callable[[], nn.Module]  # a layer from (T, B, H) to outputs (T, B, H) and a state


@dataclass(frozen=True)
class Probe:
    """What is measured: one layer of the run's own cell and kernel, which `name` names, on some lanes."""

    name: str
    build_layer: BuildLayer
    hidden_size: int
    lanes: int
    device: torch.device
    threads: int | str  # `training.threads`
    cores: int

    @property
    def flop(self) -> int:
        """Floating-point operations of one pass, of a layer of four gates: two a weight forward, and four backward."""
        return 6 * 8 * self.hidden_size**2 * self.lanes * MEASURED_STEPS

    def seconds(self, tuning: Tuning) -> float:
        """Best of four forward and backward passes over a few steps, infinite where they cannot be done."""
        layer = self.build_layer().to(self.device)
        shape = (MEASURED_STEPS, self.lanes, self.hidden_size)
        x = torch.ones(shape, dtype=DTYPES[tuning.precision], device=self.device)  # (T, B, H)

        def pass_through(_shard: int, lanes: slice) -> None:
            torch.autograd.grad(layer(x[:, lanes])[0].sum(), tuple(layer.parameters()))

        threads = threads_at_once(self.threads, self.cores, tuning.threads_per_shard)
        shards = Shards(tuning.shards, threads=threads, threads_per_shard=tuning.threads_per_shard)
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            try:
                shards.map(pass_through, self.lanes)
            except RuntimeError:  # oneDNN refuses bf16 on processors without the instructions
                return math.inf
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
        return min(seconds[1:])  # the first one also builds oneDNN's kernel


def threads_at_once(asked: int | str, cores: int, threads_per_shard: int) -> int:
    """How many shards are computed at the same time. asked: `training.threads`."""
    return int(asked) if asked != "auto" else max(1, cores // threads_per_shard)


def find_fastest(tunings: Sequence[Tuning], probe: Probe, *, cache: Path | None) -> Tuning | None:
    """The fastest of some tunings here, None if the probe can do none of them.

    What was measured on an idle machine is remembered in the file `cache`, so that the next run here is tuned the same.
    """
    shape = f"{probe.hidden_size}×{probe.lanes}, {probe.threads} threads, {probe.cores} cores"
    key = f"{platform.node()} {probe.device} torch {torch.__version__} {probe.name} {shape} {list(map(tuple, tunings))}"
    remembered = _read_cache(cache).get(key) if cache is not None else None
    for tuning in tunings:
        if remembered == list(tuning):
            return tuning
    rounds = [[probe.seconds(tuning) for tuning in tunings] for _ in range(ROUNDS)]
    seconds = dict(zip(tunings, map(min, *rounds), strict=True))
    fastest = min(tunings, key=seconds.__getitem__)
    if math.isinf(seconds[fastest]):
        return None
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
