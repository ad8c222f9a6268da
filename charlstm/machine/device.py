"""The machine that a run computes on: its device, its precision, its shards and threads."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from charlstm.environment import available_cores
from charlstm.errors import SettingsError
from charlstm.machine.allocator import keep_freed_memory
from charlstm.machine.autotuning import DTYPES, Probe, Tuning, Work, find_fastest, threads_at_once
from charlstm.machine.processes import ALONE, Processes
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
    threads_per_shard: int = 1
    processes: Processes = ALONE

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the matrix products; weights, sums and the optimiser stay in float32."""
        return DTYPES[self.precision]

    def make_shards(self) -> Shards:
        """The shards, with threads of their own."""
        return Shards(
            self.shards,
            threads=self.threads,
            threads_per_shard=self.threads_per_shard,
            processes=self.processes,
        )


def prepare_training(
    settings: TrainingSettings,
    model: ModelSettings,
    work: Work,
    *,
    cache: Path | None = None,
    processes: Processes = ALONE,
) -> Machine:
    """Set up this process for training as the settings ask, and resolve what they leave to `auto`.

    work: passes of the model, by which precision and shards are measured in a second or two. cache: the file that
    remembers what was measured.
    processes: that train together; the first measures its share of the lanes, on its share of the cores, for all.
    Raises SettingsError for a device that is not there or a precision that it cannot do.
    """
    with processes.agreeing():
        device = _find_device(settings.device, processes)
    cores = _prepare_cores(device, processes.local_size)
    lanes = -(-settings.batch_size // processes.size)  # of a process, as the numbers of shards that follow
    asked = settings.shards
    most = cores if settings.threads == "auto" else settings.threads
    shards = [-(-asked // processes.size)] if asked != "auto" else _shards_to_try(device, most, lanes)
    lanes_bytes = BYTES_OF_A_UNIT * model.hidden_size * settings.sequence_length
    keep_freed_memory(largest_block_bytes=lanes_bytes * lanes // max(shards))
    precisions = ["fp32", "bf16"] if settings.precision == "auto" else [settings.precision]
    tunings = [
        Tuning(count, team, precision)
        for count in shards
        for team in _teams_to_try(device, settings, cores // min(count, most))
        for precision in precisions
    ]
    fastest: Tuning | None = tunings[0]
    if processes.leads and (len(tunings) > 1 or precisions != ["fp32"]):
        probe = Probe(work, lanes, device, settings.threads, cores)
        fastest = find_fastest(tunings, probe, cache=cache)
    shared = processes.share(msgspec.json.encode(fastest))
    fastest = msgspec.json.decode(shared, type=Tuning | None)
    with processes.agreeing():
        if fastest is None:
            raise SettingsError(
                f"training.precision is {settings.precision}, but this processor cannot train {model.cell} in it: "
                "set it to auto or fp32"
            )
    count = fastest.shards * processes.size if asked == "auto" else asked
    team = fastest.threads_per_shard
    return Machine(device, fastest.precision, count, threads_at_once(settings.threads, cores, team), team, processes)


def training_speed(
    settings: TrainingSettings,
    model: ModelSettings,
    work: Work,
    *,
    cache: Path | None = None,
    processes: Processes = ALONE,
) -> float:
    """Floating-point operations a second of training a model as these settings would, of all processes together.

    work, cache, processes: as for `prepare_training`. Each process measures its own share, all at the same time.
    """
    machine = prepare_training(settings, model, work, cache=cache, processes=processes)
    lanes, shards = (-(-whole // processes.size) for whole in (settings.batch_size, machine.shards))
    probe = Probe(work, lanes, machine.device, settings.threads, available_cores(processes.local_size))
    own = probe.flop / probe.seconds(Tuning(shards, machine.threads_per_shard, machine.precision))
    return sum(speed for (speed,) in processes.gather_numbers([own]))


def prepare_evaluation(lanes: int) -> Machine:
    """Set up this process for measuring models in float32, on a GPU if there is one, on every core if not."""
    device = _find_device("auto", ALONE)
    threads = _prepare_cores(device, 1)
    keep_freed_memory()
    return Machine(device, "fp32", shards=_shards_to_try(device, threads, lanes)[-1], threads=threads)


def _find_device(asked: str, processes: Processes) -> torch.device:
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise SettingsError("training.device is cuda, but torch sees no CUDA device here: set it to auto or cpu")
    if not available or asked == "cpu":
        return torch.device("cpu")
    if processes.size == 1:
        return torch.device("cuda")
    if processes.local_size > torch.cuda.device_count():
        raise SettingsError(
            f"{processes.local_size} processes train on this machine, which has {torch.cuda.device_count()} CUDA "
            "devices: start one process a device, or set training.device to cpu"
        )
    return torch.device("cuda", processes.local_rank)


def _prepare_cores(device: torch.device, processes: int) -> int:
    """Leave the cores to the threads of shards, not to torch's own; return how many this process has."""
    torch.set_flush_denormal(True)  # fading activations become denormal numbers, twenty times slower to compute with
    if device.type != "cpu":
        return 1
    torch.set_num_threads(1)
    return available_cores(processes)


def _shards_to_try(device: torch.device, threads: int, lanes: int) -> list[int]:
    """The numbers of shards worth measuring: one for a GPU, else up to one a thread."""
    if device.type != "cpu":
        return [1]
    most = max(1, min(threads, lanes // LEAST_LANES))
    return sorted({1, max(1, most // 2), most})


def _teams_to_try(device: torch.device, settings: TrainingSettings, cores: int) -> list[int]:
    """The numbers of threads for a shard worth measuring: one, and all the cores that there are for each shard.

    Whoever sets the number of shards wants the same bits everywhere, and so gets one thread for each.
    """
    if settings.threads_per_shard != "auto":
        return [settings.threads_per_shard]
    return sorted({1, max(1, cores)}) if device.type == "cpu" and settings.shards == "auto" else [1]
