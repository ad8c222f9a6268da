"""The machine that a run computes on: its device, its precision, its shards and threads."""

from dataclasses import dataclass
from pathlib import Path

import torch

from charlstm.environment import available_cores
from charlstm.errors import SettingsError
from charlstm.machine.allocator import keep_freed_memory
from charlstm.machine.autotuning import DTYPES, BuildLayer, Probe, Tuning, find_fastest
from charlstm.machine.shards import Shards
from charlstm.settings import ModelSettings, TrainingSettings

BYTES_OF_A_UNIT = 60  # that torch keeps in one block for the backward pass of a layer, a step and lane (40 in bf16)
LEAST_LANES = 4  # of a shard: with fewer, its matrix products are too thin to keep a core busy


@dataclass(frozen=True)
class Machine:
    """What a run computes with: resolved values, nothing `auto`."""

    device: torch.device
    precision: str
    shards: int
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the matrix products; weights, sums and the optimiser stay in float32."""
        return DTYPES[self.precision]

    def make_shards(self) -> Shards:
        """The shards of this machine, with threads of their own."""
        return Shards(self.shards, threads=self.threads)


def prepare_training(
    settings: TrainingSettings, model: ModelSettings, build_layer: BuildLayer, *, cache: Path | None = None
) -> Machine:
    """Set up this process for training as the settings ask, and resolve what they leave to `auto`.

    build_layer: one layer of the model, from (T, B, H) to (T, B, H), on which precision and shards are measured for a
    fraction of a second. cache: the file that remembers what was measured.
    Raises SettingsError for a device that is not there or a precision that it cannot do.
    """
    device = _find_device(settings.device)
    threads = _use_threads(device, settings.threads)
    shards = [settings.shards] if settings.shards != "auto" else _shards_to_try(device, threads, settings.batch_size)
    lanes_bytes = BYTES_OF_A_UNIT * model.hidden_size * settings.sequence_length
    keep_freed_memory(largest_block_bytes=lanes_bytes * settings.batch_size // max(shards))
    precisions = ["fp32", "bf16"] if settings.precision == "auto" else [settings.precision]
    tunings = [Tuning(count, precision) for count in shards for precision in precisions]
    fastest: Tuning | None = tunings[0]
    if len(tunings) > 1 or precisions == ["bf16"]:
        name = f"{model.cell} {model.kernel}"
        probe = Probe(name, build_layer, model.hidden_size, settings.batch_size, device, threads)
        fastest = find_fastest(tunings, probe, cache=cache)
    if fastest is None:
        raise SettingsError(
            f"training.precision is bf16, but this processor cannot train {model.cell} in it: set it to auto or fp32"
        )
    return Machine(device, fastest.precision, fastest.shards, threads)


def training_speed(settings: TrainingSettings, model: ModelSettings, build_layer: BuildLayer) -> float:
    """Floating-point operations a second of training one layer on this machine, as these settings would.

    build_layer: as for `prepare_training`, a layer of four gates, from (T, B, H) to (T, B, H).
    """
    machine = prepare_training(settings, model, build_layer)
    probe = Probe("", build_layer, model.hidden_size, settings.batch_size, machine.device, machine.threads)
    return probe.flop / probe.seconds(Tuning(machine.shards, machine.precision))


def prepare_evaluation(lanes: int) -> Machine:
    """Set up this process for measuring models in float32, on a GPU if there is one, on every core if not."""
    device = _find_device("auto")
    threads = _use_threads(device, "auto")
    keep_freed_memory()
    return Machine(device, "fp32", shards=_shards_to_try(device, threads, lanes)[-1], threads=threads)


def _find_device(asked: str) -> torch.device:
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise SettingsError("training.device is cuda, but torch sees no CUDA device here: set it to auto or cpu")
    return torch.device("cuda" if available and asked != "cpu" else "cpu")


def _use_threads(device: torch.device, asked: int | str) -> int:
    """Leave the cores to the threads of shards, not to torch's own; return how many threads compute shards."""
    torch.set_flush_denormal(True)  # fading activations become denormal numbers, twenty times slower to compute with
    if device.type != "cpu":
        return 1
    torch.set_num_threads(1)
    return available_cores() if asked == "auto" else int(asked)


def _shards_to_try(device: torch.device, threads: int, lanes: int) -> list[int]:
    """The numbers of shards worth measuring: one for a GPU, else up to one a thread."""
    if device.type != "cpu":
        return [1]
    most = max(1, min(threads, lanes // LEAST_LANES))
    return sorted({1, max(1, most // 2), most})
