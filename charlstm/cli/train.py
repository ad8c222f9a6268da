"""`charlstm train`: settings and text in, a run folder out."""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.cli.config import SetOption
from charlstm.cli.signals import stop_requests
from charlstm.cli.terminal import one_sentence, say
from charlstm.errors import InputOutputError, Interrupted, RunError, SettingsError

if TYPE_CHECKING:
    from charlstm.cli.record import Saver
    from charlstm.cli.report import Report
    from charlstm.cli.signals import StopRequest
    from charlstm.runs.folder import Run
    from charlstm.settings import DataSettings, Settings
    from charlstm.text.corpus import Corpus
    from charlstm.training.trainer import StepFacts, Trainer


@one_sentence
def train_command(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML settings; without, the defaults on python-stdlib.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="New run folder (default runs/<config name>).")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Continue a run from its latest checkpoint.")
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option("--init-from", metavar="RUN", help="Start from another run's best weights.")
    ] = None,
    overrides: SetOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but mistakes.")] = False,
) -> None:
    """Train a model and keep its best and latest checkpoints in a run folder."""
    if resume is not None and (config is not None or run is not None or init_from is not None):
        raise SettingsError(
            "--resume goes on with the run's own folder, settings and weights: leave CONFIG, --run and --init-from out"
        )
    if resume is not None:
        resume_training(resume, overrides or (), quiet=quiet)
    else:
        start_training(config, run, overrides or (), init_from=init_from, quiet=quiet)


def start_training(
    config: Path | None, run_folder: Path | None, overrides: Sequence[str], *, init_from: Path | None, quiet: bool
) -> None:
    """Train a new run, perhaps from another's weights."""
    from charlstm.cli.text import prepare_run_corpus
    from charlstm.runs import folder as runs
    from charlstm.settings import load_settings

    settings = load_settings(config, overrides)
    if run_folder is not None:
        runs.refuse_taken(run_folder)
    corpus = prepare_run_corpus(settings.data)
    settings, trainer = _build(settings, corpus)
    inherited = _inherit(trainer, settings, corpus, runs.open_run(init_from)) if init_from is not None else None
    name = config.stem if config is not None else "default"
    with stop_requests(quiet=quiet) as request:
        run = runs.create_run(run_folder, settings, corpus.vocab, name=name)
        with runs.only_writer(run):
            _train(run, trainer, corpus, request, quiet=quiet, inherited=inherited)


def resume_training(folder: Path, overrides: Sequence[str], *, quiet: bool) -> None:
    """Continue a run from its latest checkpoint, perhaps with other limits and intervals."""
    from charlstm.runs import checkpoints
    from charlstm.runs import folder as runs
    from charlstm.settings import override_settings

    run = runs.open_run(folder)
    settings = override_settings(run.settings, overrides)
    _refuse_changes(run, settings)
    with runs.only_writer(run):
        checkpoint, damage = checkpoints.read_newest_whole(run)
        for error in damage:
            say(f"{error}; going on from {checkpoint.name}")
        progress = dict(checkpoint.progress)
        corpus = _same_text(run, settings.data, progress.pop("text_sha256"))
        if settings.training.max_minutes != run.settings.training.max_minutes:
            progress["total_steps"] = None  # estimated for another number of minutes
        settings, trainer = _build(settings, corpus)
        trainer.restore(checkpoint.weights, checkpoint.training, progress)
        with stop_requests(quiet=quiet) as request:
            if progress["best_step"] is not None:
                checkpoints.point_best(run, progress["best_step"])
            runs.cut_metrics(run, progress["step"])
            run = runs.rewrite_settings(run, settings)
            _train(run, trainer, corpus, request, quiet=quiet)


def _same_text(run: "Run", data: "DataSettings", text_sha256: str) -> "Corpus":
    """The text that the run was trained on; one that came from a pipe is looked for in the cache first."""
    from charlstm.cli.text import prepare_run_corpus
    from charlstm.environment import cache_folder
    from charlstm.text.corpus import open_corpus
    from charlstm.text.sources import STDIN

    cached = open_corpus(text_sha256, cache_folder()) if STDIN in data.sources else None
    corpus = cached or prepare_run_corpus(data)
    if corpus.fingerprint != text_sha256:
        raise RunError(
            f"the text of {run.folder} has changed since it was trained: restore it, or start a new run on the new text"
        )
    return corpus


def _refuse_changes(run: "Run", settings: "Settings") -> None:
    """What a resumed run may change are its limits, its intervals and the machine it runs on."""
    free = {"max_steps", "max_epochs", "max_minutes", "patience", "log_every_steps", "validate_every_steps"}
    free |= {"save_every_steps", "sample_length", "device", "precision", "threads"}
    for section in ("data", "model", "training"):
        old, new = getattr(run.settings, section), getattr(settings, section)
        for name in old.__struct_fields__:
            before, now = getattr(old, name), getattr(new, name)
            if before != now and not (section == "training" and name in free):
                raise SettingsError(
                    f"--set {section}.{name}={now} differs from {before}, with which {run.folder} was trained: "
                    "a resumed run may only change its limits and intervals, so start a new run for this"
                )


def _build(settings: "Settings", corpus: "Corpus") -> tuple["Settings", "Trainer"]:
    """The trainer that the settings describe, and the settings with what `auto` and relative paths came to."""
    from msgspec.structs import replace

    from charlstm.environment import cache_folder
    from charlstm.machine.runtime import prepare_runtime
    from charlstm.networks.models import build_model
    from charlstm.text.corpus import split_ids
    from charlstm.text.sources import absolute_sources
    from charlstm.training.trainer import Trainer

    _refuse_too_large(settings, corpus.vocab.size)
    parts = split_ids(corpus.ids, settings.data.split)
    runtime = prepare_runtime(
        settings.training, hidden_size=settings.model.hidden_size, measured=cache_folder() / "speeds.json"
    )
    model = build_model(corpus.vocab.size, settings.model, seed=settings.training.seed)
    trainer = Trainer(
        model,
        settings.training,
        dropout=settings.model.dropout,
        train_ids=parts.train,
        validation_ids=parts.val,
        runtime=runtime,
    )
    resolved = replace(
        settings,
        data=replace(settings.data, sources=absolute_sources(settings.data.sources)),
        training=replace(settings.training, precision=runtime.precision, threads=runtime.threads),
    )
    return resolved, trainer


def _refuse_too_large(settings: "Settings", vocab_size: int) -> None:
    """Raise SettingsError for a model that no training on this machine can hold."""
    import math
    import os

    from charlstm.weights import weight_shapes

    numbers = sum(math.prod(shape) for shape in weight_shapes(settings.model, vocab_size).values())
    needed = 4 * 4 * numbers  # bytes: each weight, its gradient and its two moments
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise SettingsError(
            f"a model of {numbers:,} parameters needs {needed / 1e9:,.0f} GB to train, but this machine has "
            f"{memory / 1e9:,.0f}: lower model.hidden_size, model.embedding_size or model.num_layers"
        )


def _inherit(trainer: "Trainer", settings: "Settings", corpus: "Corpus", other: "Run") -> str:
    """Start from the best weights of another run; say which symbols were matched and which are new."""
    from charlstm.networks.models import inherit
    from charlstm.runs import checkpoints
    from charlstm.text.vocabulary import shared_ids

    for name in ("cell", "objective", "bidirectional", "embedding_size", "hidden_size", "num_layers"):
        ours, theirs = getattr(settings.model, name), getattr(other.settings.model, name)
        if ours != theirs:
            raise SettingsError(
                f"model.{name} is {ours}, but {theirs} in {other.folder}: --init-from needs it the same"
            )
    checkpoint = checkpoints.read_checkpoint(other, "best", model_only=True)
    rows, their_rows = shared_ids(corpus.vocab, other.vocab)
    inherit(trainer.model, checkpoint.weights, rows, their_rows)
    return (
        f"{checkpoint.name} of {other.folder}: {len(rows)} symbols matched, {corpus.vocab.size - len(rows)} added, "
        f"{other.vocab.size - len(rows)} left behind"
    )


def _train(
    run: "Run",
    trainer: "Trainer",
    corpus: "Corpus",
    request: "StopRequest",
    *,
    quiet: bool,
    inherited: str | None = None,
) -> None:
    """Take the trainer's steps; log, save and say what happens; end as the limits or a signal ask."""
    from charlstm.cli.record import Log, Saver
    from charlstm.cli.report import Report, header_rows

    report = Report(quiet=quiet, first_step=trainer.progress.step)
    saver = Saver(run, trainer, report, text_sha256=corpus.fingerprint)
    if trainer.progress.step == 0:
        _save_beginning(run, saver, report)
    rows = header_rows(run, trainer, corpus)
    report.header(rows if inherited is None else [*rows, ("begins with", inherited)])
    log = Log(run, trainer, report)
    limit = trainer.stopped_by()
    if limit is not None:
        report.line(f"{run.folder} has reached {limit} already: raise it with --set {limit}=…")
        return
    try:
        for facts in trainer.steps():
            log.step(facts)
            report.step(facts, log.chars_per_second)
            _show_sample(run, trainer, facts, report)
            signal_number = request.signal_number
            saver.step(facts, log, must=facts.stopped_by is not None or signal_number is not None)
            if signal_number is not None and facts.stopped_by is None:
                raise Interrupted(
                    f"stopped and saved after step {facts.step}, "
                    f"go on with: charlstm train --resume {shlex.quote(str(run.folder))}",
                    signal_number=signal_number,
                )
    finally:
        report.close()
    report.reached(run, trainer, facts)


def _save_beginning(run: "Run", saver: "Saver", report: "Report") -> None:
    """Save before the first step: a disk that refuses is noticed at once, and from now on any end can be resumed."""
    from charlstm.runs import folder as runs

    try:
        saver.save(is_best=False)
    except InputOutputError:
        shutil.rmtree(run.folder, ignore_errors=True)
        raise
    try:
        runs.mark_newest(run)
    except InputOutputError as error:
        report.line(f"{error}; name this run with --run to sample from it")


def _show_sample(run: "Run", trainer: "Trainer", facts: "StepFacts", report: "Report") -> None:
    """At a validation, if the settings ask for it, show what the model writes by now."""
    length = run.settings.training.sample_length
    if facts.validation is None or length is None or report.quiet or run.settings.model.objective == "cloze":
        return
    from charlstm.inference import Engine, SamplingParameters, generate, take_text

    sampling, vocab = run.settings.sampling, run.vocab
    weights, _, _ = trainer.export()
    parameters = SamplingParameters(temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p)
    steps = generate(Engine(weights, run.settings.model), vocab, parameters, prompt=[], length=length, seed=facts.step)
    text = b"".join(take_text(one, vocab) for (one,) in steps)
    report.line("".join(c if c.isprintable() or c == "\n" else " " for c in text.decode("utf-8", "replace")))
