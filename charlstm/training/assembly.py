"""A trainer from settings and text: its model, its batches and its machine, each as the settings say or best here."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace

from charlstm import runs
from charlstm.environment import available_cores, cache_folder
from charlstm.errors import SettingsError
from charlstm.machine import ALONE, Pass, Processes, Work, prepare_training, training_speed
from charlstm.networks import OBJECTIVES, inherit_weights
from charlstm.runs import Run
from charlstm.settings import ModelSettings, Settings, TrainingSettings
from charlstm.text import (
    Batches,
    Beginnings,
    Corpus,
    DocumentBatches,
    Ids,
    Lanes,
    Splits,
    Vocab,
    WithBeginnings,
    absolute_sources,
    shared_ids,
    start_id,
)
from charlstm.training.trainer import Trainer
from charlstm.weights import count_weights, training_flop

PROBED_SIZE, PROBED_VOCAB = 128, 64  # of the model by which a machine's speed is told, as a minute has it
LANES_A_BEGINNING = 8  # of that many one reads beginnings; docs/beginnings.md has what that costs and gains
INHERITED = (  # of the model's settings, without which another run's weights do not fit
    "cell",
    "objective",
    "bidirectional",
    "embedding_size",
    "hidden_size",
    "num_layers",
    "skip_connections",
)
LEAST_UNIT_BYTES = 16  # that any cell keeps of a unit, a step and lane for the backward pass


def build_trainer(
    settings: Settings, corpus: Corpus, parts: Splits, processes: Processes = ALONE
) -> tuple[Settings, Trainer]:
    """The trainer that the settings describe, and the settings with resolved values for `auto` and relative paths.

    Raises SettingsError for what this machine cannot hold or compute, TextError for too short a text.
    """
    with processes.agreeing():
        _refuse_too_large(settings, corpus.vocab.size, processes)
    objective = OBJECTIVES[settings.model.objective]
    if processes.size > 1:
        settings = _with_training(settings, **_agreed_intervals(settings.training))
    work = work_of(settings.model, corpus.vocab.size)
    machine = prepare_training(settings.training, settings.model, work, cache=_speeds(), processes=processes)
    beginning_lanes = _beginning_lanes(settings)
    with processes.agreeing():
        batches = _make_batches(parts.train, corpus.vocab, settings, beginning_lanes)
    trainer = Trainer(
        objective.build_model(corpus.vocab.size, settings.model, seed=settings.training.seed),
        objective,
        settings.training,
        batches=batches,
        validation_ids=parts.val,
        start_id=start_id(corpus.vocab),
        end_id=corpus.vocab.boundary_id,
        machine=machine,
    )
    resolved = _with_training(
        replace(settings, data=replace(settings.data, sources=absolute_sources(settings.data.sources))),
        precision=machine.precision,
        shards=machine.shards,
        threads_per_shard=machine.threads_per_shard,
        beginning_lanes=beginning_lanes,
        learning_rate=trainer.highest_rate,
    )
    return resolved, trainer


def speed_here(settings: Settings, lanes: int, processes: Processes = ALONE) -> float:
    """Operations a second of all processes that train the cell of the settings, in small layers on so many lanes."""
    model = replace(settings.model, hidden_size=PROBED_SIZE, embedding_size=PROBED_SIZE)
    training = replace(settings.training, batch_size=lanes)
    return training_speed(training, model, work_of(model, PROBED_VOCAB), cache=_speeds(), processes=processes)


def work_of(settings: ModelSettings, vocab_size: int) -> Work:
    """Passes of a model, as a step of training has them."""
    objective = OBJECTIVES[settings.objective]

    def build_pass(device: torch.device) -> Pass:
        model = objective.build_model(vocab_size, settings).to(device)
        parameters = list(model.parameters())

        def compute(steps: int, lanes: int, dtype: torch.dtype) -> object:
            ids = torch.zeros(steps, lanes, dtype=torch.long, device=device)
            masks = model.core.draw_masks(lanes, torch.Generator(device))
            logits, _ = model(ids, None, masks=masks, dtype=dtype)
            return torch.autograd.grad(objective.loss(logits, ids, ids, ids == 0), parameters)

        return compute

    name = f"{settings.objective} {settings.cell} {settings.kernel} {settings.num_layers}×{settings.hidden_size}"
    return Work(name, training_flop(settings, vocab_size), build_pass)


def _speeds() -> Path:
    """Where what was measured of this machine is kept."""
    return cache_folder() / "speeds.json"


def inherit_model(settings: Settings, given: Collection[str], other: Run) -> tuple[Settings, Collection[str]]:
    """The settings, and those given, with the model into which another run's weights fit, where nothing else is given.

    given: dotted paths.
    """
    inherited = {f"model.{name}": getattr(other.settings.model, name) for name in INHERITED}
    missing = {path.partition(".")[2]: value for path, value in inherited.items() if path not in given}
    return replace(settings, model=replace(settings.model, **missing)), {*given, *inherited}


def inherit_run(trainer: Trainer, settings: Settings, corpus: Corpus, other: Run) -> str:
    """Start from the best weights of another run; say which symbols were matched and which are new.

    Raises SettingsError for a model of another kind or size, RunError for a damaged checkpoint.
    """
    for name in INHERITED:
        ours, theirs = getattr(settings.model, name), getattr(other.settings.model, name)
        if ours != theirs:
            raise SettingsError(
                f"model.{name} is {ours}, but {theirs} in {other.folder}: --init-from needs it the same"
            )
    checkpoint = runs.read_checkpoint(other, "best", model_only=True)
    rows, their_rows = shared_ids(corpus.vocab, other.vocab)
    inherit_weights(trainer.model, checkpoint.weights, rows, their_rows)
    return (
        f"{checkpoint.name} of {other.folder}: {len(rows)} symbols matched, {corpus.vocab.size - len(rows)} added, "
        f"{other.vocab.size - len(rows)} left behind"
    )


def too_large_batch(settings: TrainingSettings) -> SettingsError:
    return SettingsError(
        f"a batch of {settings.batch_size:,} lanes of {settings.sequence_length:,} characters needs more memory than "
        "there is: lower training.batch_size, training.sequence_length or the size of the model"
    )


def _make_batches(ids: Ids, vocab: Vocab, settings: Settings, beginning_lanes: int) -> Batches:
    training = settings.training
    lanes, window = training.batch_size - beginning_lanes, training.sequence_length
    if vocab.boundary_id is not None:
        around = not OBJECTIVES[settings.model.objective].carries_state
        return DocumentBatches(ids, start_id(vocab), vocab.boundary_id, lanes, window, training.seed, around)
    others = Lanes(ids, lanes, window, training.segment_steps, training.seed)
    if not beginning_lanes:
        return others
    return WithBeginnings(others, Beginnings(vocab, beginning_lanes, training.seed))


def _beginning_lanes(settings: Settings) -> int:
    """How many lanes read beginnings: none of documents, and none where no state is carried and all begin afresh."""
    wanted, lanes = settings.training.beginning_lanes, settings.training.batch_size
    if not OBJECTIVES[settings.model.objective].carries_state or settings.data.documents != "stream":
        return 0
    if wanted != "auto":
        return min(wanted, lanes - 1)  # a short text may leave fewer lanes than the settings have
    return lanes // LANES_A_BEGINNING


def _agreed_intervals(training: TrainingSettings) -> dict[str, int]:
    """How often to validate and to save: after steps at which all processes have the same weights."""
    steps = training.local_steps
    return {name: -(-getattr(training, name) // steps) * steps for name in ("validate_every_steps", "save_every_steps")}


def _with_training(settings: Settings, **changed: Any) -> Settings:
    return replace(settings, training=replace(settings.training, **changed))


def _refuse_too_large(settings: Settings, vocab_size: int, processes: Processes) -> None:
    """Raise SettingsError for a model or a batch that no training run on this machine can hold."""
    model, training = settings.model, settings.training
    numbers = count_weights(model, vocab_size)
    needed = 4 * 4 * numbers  # bytes: each weight, its gradient and its two moments
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // processes.local_size
    if needed > memory:
        each = " for each process" if processes.local_size > 1 else ""
        raise SettingsError(
            f"a model of {numbers:,} parameters needs {needed / 1e9:,.0f} GB to train, but this machine has "
            f"{memory / 1e9:,.0f}{each}: lower model.hidden_size, model.embedding_size or model.num_layers"
        )
    shards = 1 if training.shards == "auto" else int(training.shards)
    cores = available_cores(processes.local_size) * processes.size
    lanes = training.batch_size * min(1.0, cores / shards) / processes.size  # at the same time
    if needed + LEAST_UNIT_BYTES * lanes * training.sequence_length * model.hidden_size * model.num_layers > memory:
        raise too_large_batch(training)
