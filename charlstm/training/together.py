"""What the processes of a training run must have in common before they begin: settings, text, versions, weights."""

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import numpy as safetensors_numpy

from charlstm import __version__
from charlstm.environment import cache_folder
from charlstm.errors import SettingsError, TextError
from charlstm.machine import Processes
from charlstm.runs import Checkpoint, Progress, Run, TextIdentity
from charlstm.settings import Settings, dump_settings, parse_settings
from charlstm.text import Corpus, Vocab, open_corpus

# Of a machine's own: where its copy of the text lies, and how many of its cores it uses.
OWN_SETTINGS = frozenset({"data.sources", "training.threads"})
PROCESSOR = "the kind of processor"
CURES = {PROCESSOR: "set the variable ATEN_CPU_CAPABILITY to avx2, which all have, for every process"}


def refuse_different(processes: Processes, settings: Settings) -> list[str]:
    """Raise SettingsError unless all processes have the same settings, versions and kind of processor.

    Returns a sentence for whoever should know of processors that differ in name alone.
    """
    facts = {
        "charlstm": __version__,
        "torch": str(torch.__version__),
        PROCESSOR: torch.backends.cpu.get_cpu_capability(),
        **dict(_flat(settings)),
    }
    everyone = processes.gather(msgspec.json.encode((facts, _processor())), patient=True)
    found = [msgspec.json.decode(each, type=tuple[dict[str, Any], str]) for each in everyone]
    first, processor = found[0]
    with processes.agreeing():
        for rank, (theirs, _) in enumerate(found):
            for name in [name for name in first if theirs.get(name) != first[name]]:
                cure = CURES.get(name, "it must be the same in all")
                raise SettingsError(
                    f"{name} is {first[name]} in process 0 but {theirs.get(name)} in process {rank}: {cure}"
                )
    others = sorted({name for _, name in found} - {processor})
    if not others:
        return []
    return [f"processes run on {processor} and on {', '.join(others)}: other shards on each give other bits"]


def read_text(processes: Processes, read: Callable[[], Corpus]) -> Corpus:
    """The text of a run, read by one process of each machine; the others map what it has encoded.

    Raises TextError on all of them if it is not the same everywhere, or where it cannot be read.
    """
    corpus: Corpus | None = None
    with processes.agreeing():
        if processes.leads_machine:
            corpus = read()
    first, *others = [each.decode() for each in processes.gather(corpus.fingerprint.encode() if corpus else b"")]
    with processes.agreeing():
        for rank, fingerprint in enumerate(others, start=1):
            if fingerprint not in ("", first):
                raise TextError(
                    f"the text of process {rank} is not that of process 0: give every machine the same files, and the "
                    "same data settings"
                )
        corpus = corpus or open_corpus(first, cache_folder())
        if corpus is None:
            raise TextError("this machine's encoded text cannot be read by all of its processes: see CHARLSTM_CACHE")
    return corpus


def share_run(processes: Processes, run: Run | None) -> Run:
    """The run that rank 0 has opened or made; elsewhere one that is on no disk."""
    facts = None
    if run is not None:
        text = run.text.fingerprint if run.text else None
        facts = (os.fsencode(run.folder), dump_settings(run.settings), run.vocab.to_json(), text)
    shared = processes.share(msgspec.msgpack.encode(facts))
    if run is not None:
        return run
    path, settings, vocab, text = msgspec.msgpack.decode(shared, type=tuple[bytes, str, str, str | None])
    folder = os.fsdecode(path)
    return Run(
        Path(folder),
        parse_settings(settings.encode(), where=folder),
        Vocab.from_json(vocab, where=folder),
        TextIdentity(text) if text is not None else None,
    )


def share_checkpoint(processes: Processes, checkpoint: Checkpoint | None) -> Checkpoint:
    """The state of a training run that rank 0 has."""
    parts = None
    if checkpoint is not None:
        arrays = safetensors_numpy.save(checkpoint.weights), safetensors_numpy.save(checkpoint.training)
        parts = (*arrays, msgspec.json.encode(checkpoint.progress))
    shared = processes.share(msgspec.msgpack.encode(parts))
    if checkpoint is not None:
        return checkpoint
    weights, training, progress = msgspec.msgpack.decode(shared, type=tuple[bytes, bytes, bytes])
    return Checkpoint(
        safetensors_numpy.load(weights),
        safetensors_numpy.load(training),
        msgspec.json.decode(progress, type=Progress),
    )


def _flat(settings: Settings) -> Iterator[tuple[str, Any]]:
    for section in ("data", "model", "training"):
        for name, value in msgspec.to_builtins(getattr(settings, section)).items():
            if f"{section}.{name}" not in OWN_SETTINGS:
                yield f"{section}.{name}", value


def _processor() -> str:
    """The name of the processor, or of the GPU."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
