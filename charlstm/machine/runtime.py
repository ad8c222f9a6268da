"""The machine that torch runs on: device, precision, threads, memory allocator."""

import ctypes
import json
import math
import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from charlstm.errors import SettingsError
from charlstm.machine.workers import Workers, count_workers
from charlstm.settings import TrainingSettings

Choice: TypeAlias = tuple[int, str]  # threads and precision

MEASURED_STEPS = 8  # characters a lane in the probe of `auto`
MALLOPT_TRIM_THRESHOLD, MALLOPT_TOP_PAD, MALLOPT_MMAP_THRESHOLD, MALLOPT_ARENA_MAX = -1, -2, -3, -8  # of glibc
ARENA_BYTES = 64 << 20  # the largest block that glibc's malloc has room for in the arena of a thread
BYTES_OF_A_UNIT = 60  # that torch keeps in one block for the backward pass of a layer, a step and lane (40 in bf16)


@dataclass(frozen=True)
class Runtime:
    """What a run computes with; `precision` and `threads` are what `auto` came to."""

    device: torch.device
    precision: str
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the matrix products; weights, sums and the optimiser stay in float32."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def workers(self, lanes: int) -> Workers:
        """The threads for so many lanes; a GPU is fed by one."""
        return Workers(self.threads if self.device.type == "cpu" else 1, lanes=lanes)


def prepare_runtime(settings: TrainingSettings, *, hidden_size: int = 256, measured: Path | None = None) -> Runtime:
    """Set up this process for training as the settings ask and say what `auto` came to.

    What `auto` leaves open is measured for a fraction of a second, on a layer of the run's own size, and remembered, if
    the machine was idle, in the file `measured`, so that the next run here does the same sums in the same order.
    Raises SettingsError for a device that is not there or a precision that it cannot do.
    """
    device = _device(settings.device)
    torch.set_flush_denormal(True)  # fading activations become denormal numbers, twenty times slower to compute with
    here = torch.get_num_threads()
    workers = count_workers(here if settings.threads == "auto" else settings.threads, settings.batch_size)
    keep_freed_memory(
        largest_block=BYTES_OF_A_UNIT * hidden_size * settings.sequence_length * settings.batch_size // workers
    )
    all_threads = sorted({1, max(1, here // 2), here}) if settings.threads == "auto" else [settings.threads]
    if device.type == "cuda" and settings.threads == "auto":
        all_threads = [here]
    precisions = ["fp32", "bf16"] if settings.precision == "auto" else [settings.precision]
    choices = [(threads, precision) for threads in all_threads for precision in precisions]
    threads, precision = choices[0]
    if len(choices) > 1 or precision == "bf16":
        shape = (hidden_size, settings.batch_size)
        key = f"{platform.node()} {device} torch {torch.__version__} workers LSTM {shape} {choices}"
        threads, precision = _remembered(measured, key, choices) or _fastest(choices, device, shape, measured, key)
    torch.set_num_threads(threads)
    return Runtime(device, precision, threads)


def keep_freed_memory(*, largest_block: int = 0) -> None:
    """Tell glibc's malloc not to give large blocks back to the system.

    A training step allocates and frees hundreds of MB; returning them makes every step fault its pages in anew,
    which on a virtual machine halves the speed. Elsewhere than on glibc this does nothing.
    largest_block: bytes that a thread will ask for at once; if the arena of a thread has no room for them, which would
    map them anew each time, all threads share the main one, at the price of waiting for each other there.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MALLOPT_MMAP_THRESHOLD, 1 << 30)
        mallopt(MALLOPT_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(MALLOPT_TOP_PAD, 64 << 20)
        if largest_block > ARENA_BYTES:
            mallopt(MALLOPT_ARENA_MAX, 1)


def _device(asked: str) -> torch.device:
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise SettingsError("training.device is cuda, but torch sees no CUDA device here: set it to auto or cpu")
    return torch.device("cuda" if available and asked != "cpu" else "cpu")


def _fastest(
    choices: Sequence[Choice], device: torch.device, shape: tuple[int, int], measured: Path | None, key: str
) -> Choice:
    """The choice of threads and precision that takes least time, written down under its key."""
    seconds = {choice: _seconds_of_a_step(*choice, device=device, shape=shape) for choice in choices}
    fastest = min(choices, key=seconds.__getitem__)
    if math.isinf(seconds[fastest]):
        raise SettingsError(
            "training.precision is bf16, but this processor cannot train an LSTM in it: set it to auto or fp32"
        )
    idle = os.getloadavg()[0] < (os.cpu_count() or 1) / 2
    if measured is not None and idle:  # on a busy machine, what is fastest now is not what will be
        with suppress(OSError):  # a cache that cannot be written costs the next run a moment
            measured.parent.mkdir(parents=True, exist_ok=True)
            unfinished = measured.with_name(f"unfinished-{os.getpid()}-{measured.name}")
            unfinished.write_text(json.dumps({**_notes(measured), key: fastest}, indent=1))
            unfinished.replace(measured)
    return fastest


def _remembered(measured: Path | None, key: str, choices: Sequence[Choice]) -> Choice | None:
    """What was fastest here before, None if that is not known."""
    note = _notes(measured).get(key) if measured is not None else None
    return next((choice for choice in choices if note == list(choice)), None)


def _notes(measured: Path) -> dict[str, Any]:
    try:
        notes = json.loads(measured.read_bytes())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _seconds_of_a_step(threads: int, precision: str, *, device: torch.device, shape: tuple[int, int]) -> float:
    """Best of four forward and backward passes of one layer over a few steps, infinite where it cannot be done."""
    hidden_size, lanes = shape
    torch.set_num_threads(threads)
    runtime = Runtime(device, precision, threads)
    workers, dtype = runtime.workers(lanes), runtime.dtype
    layer = torch.nn.LSTM(hidden_size, hidden_size, dtype=dtype, device=device)
    x = torch.ones(MEASURED_STEPS, lanes, hidden_size, dtype=dtype, device=device)  # (T, B, H)

    def pass_through(part: slice) -> None:
        torch.autograd.grad(layer(x[:, part])[0].sum(), tuple(layer.parameters()))

    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        try:
            workers.map_lanes(pass_through, lanes)
        except RuntimeError:  # oneDNN refuses bf16 on processors without the instructions
            return math.inf
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])  # the first one also builds oneDNN's kernel
