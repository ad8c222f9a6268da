"""The machine that torch runs on: device, precision, threads, memory allocator."""

import ctypes
import time
from dataclasses import dataclass

import torch

from charlstm.config import TrainingSettings
from charlstm.errors import SettingsError

MALLOPT_TOP_PAD, MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD = -2, -1, -3  # from glibc's malloc.h


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


def prepare_runtime(settings: TrainingSettings) -> Runtime:
    """Set up this process for training as the settings ask and say what `auto` came to.

    Raises SettingsError for a device that is not there or a precision that it cannot do.
    """
    device = _device(settings.device)
    if settings.threads != "auto":
        torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)  # fading activations become denormal numbers, twenty times slower to compute with
    keep_freed_memory()
    return Runtime(device, _precision(settings.precision, device), torch.get_num_threads())


def keep_freed_memory() -> None:
    """Tell glibc's malloc not to give large blocks back to the system.

    A training step allocates and frees hundreds of MB; returning them makes every step fault its pages in anew,
    which on a virtual machine halves the speed. Elsewhere than on glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MALLOPT_MMAP_THRESHOLD, 1 << 30)
        mallopt(MALLOPT_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(MALLOPT_TOP_PAD, 64 << 20)


def _device(asked: str) -> torch.device:
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise SettingsError("training.device is cuda, but torch sees no CUDA device here: set it to auto or cpu")
    return torch.device("cuda" if available and asked != "cpu" else "cpu")


def _precision(asked: str, device: torch.device) -> str:
    """bf16 where it runs and `auto` finds it faster than fp32, else fp32."""
    if asked == "fp32":
        return "fp32"
    try:
        bf16_seconds = _seconds_of_a_step(torch.bfloat16, device)
    except RuntimeError as error:  # oneDNN refuses bf16 on processors without the instructions
        if asked == "bf16":
            raise SettingsError(
                "training.precision is bf16, but this processor cannot train an LSTM in it: set it to auto or fp32"
            ) from error
        return "fp32"
    if asked == "bf16":
        return "bf16"
    return "bf16" if bf16_seconds < _seconds_of_a_step(torch.float32, device) else "fp32"


def _seconds_of_a_step(dtype: torch.dtype, device: torch.device) -> float:
    """Best of four forward and backward passes of a small LSTM layer, after one to warm up."""
    layer = torch.nn.LSTM(128, 128, dtype=dtype, device=device)
    x = torch.ones(32, 32, 128, dtype=dtype, device=device)  # (T, B, E)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        layer(x)[0].sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])
