"""`charlstm train`: settings and text in, a run folder out."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm.cli.config import SetOption
from charlstm.cli.terminal import one_sentence
from charlstm.errors import InputOutputError, Interrupted, RunError, SettingsError

if TYPE_CHECKING:
    from charlstm.cli.report import Report
    from charlstm.config import Settings
    from charlstm.corpus import Corpus
    from charlstm.runs import Run
    from charlstm.trainer import StepFacts, Trainer


@one_sentence
def train_command(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="YAML settings; without, the defaults on python-stdlib.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="New run folder (default runs/<config name>).")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Continue a run from its latest checkpoint.")
    ] = None,
    overrides: SetOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but mistakes.")] = False,
) -> None:
    """Train a model and keep its best and latest checkpoints in a run folder."""
    if resume is not None and (config is not None or run is not None):
        raise SettingsError("--resume goes on with the run's own folder and settings: leave CONFIG and --run out")
    if resume is not None:
        resume_training(resume, overrides or (), quiet=quiet)
    else:
        start_training(config, run, overrides or (), quiet=quiet)


def start_training(config: Path | None, run_folder: Path | None, overrides: Sequence[str], *, quiet: bool) -> None:
    """Train a new run."""
    from charlstm import runs
    from charlstm.cli.text import prepare_run_corpus
    from charlstm.config import load_settings

    settings = load_settings(config, overrides)
    if run_folder is not None:
        runs.refuse_taken(run_folder)
    corpus = prepare_run_corpus(settings.data)
    settings, trainer = _build(settings, corpus)
    run = runs.create_run(run_folder, settings, corpus.vocab, name=config.stem if config is not None else "default")
    with runs.only_writer(run):
        _train(run, trainer, corpus, quiet=quiet)


def resume_training(folder: Path, overrides: Sequence[str], *, quiet: bool) -> None:
    """Continue a run from its latest checkpoint, perhaps with other limits and intervals."""
    from charlstm import runs
    from charlstm.cli.text import prepare_run_corpus
    from charlstm.config import override_settings
    from charlstm.corpus import open_corpus
    from charlstm.engine import check_weights
    from charlstm.environment import cache_folder

    run = runs.open_run(folder)
    settings = override_settings(run.settings, overrides)
    _refuse_changes(run, settings)
    with runs.only_writer(run):
        checkpoint = runs.read_checkpoint(run, "latest")
        check_weights(checkpoint.weights, settings.model, run.vocab.size, where=f"checkpoint {checkpoint.name}")
        progress = dict(checkpoint.progress)
        fingerprint = progress.pop("text_sha256")
        if settings.data.sources == ("-",):
            corpus = open_corpus(fingerprint, cache_folder()) or prepare_run_corpus(settings.data)
        else:
            corpus = prepare_run_corpus(settings.data)
        if corpus.fingerprint != fingerprint:
            raise RunError(
                f"the text of {folder} has changed since it was trained: restore it, or start a new run on the new text"
            )
        if settings.training.max_minutes != run.settings.training.max_minutes:
            progress["total_steps"] = None  # estimated for another number of minutes
        settings, trainer = _build(settings, corpus)
        trainer.restore(checkpoint.weights, checkpoint.training, progress)
        runs.cut_metrics(run, progress["step"])
        run = runs.rewrite_settings(run, settings)
        _train(run, trainer, corpus, quiet=quiet)


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

    from charlstm.corpus import split_ids
    from charlstm.model import build_model
    from charlstm.runtime import prepare_runtime
    from charlstm.sources import absolute_sources
    from charlstm.trainer import Trainer

    parts = split_ids(corpus.ids, settings.data.split)
    runtime = prepare_runtime(settings.training)
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


def _train(run: "Run", trainer: "Trainer", corpus: "Corpus", *, quiet: bool) -> None:
    """Take the trainer's steps; log, save and say what happens; end as the limits or a signal ask."""
    from charlstm.cli.report import Report
    from charlstm.cli.signals import stop_requests
    from charlstm.errors import CharLSTMError

    report = Report(quiet=quiet, first_step=trainer.progress.step)
    report.header(_header(run, trainer, corpus))
    saver = _Saver(run, trainer, corpus.fingerprint, report)
    log = _Log(run, trainer)
    facts = None
    try:
        with stop_requests() as request:
            for facts in trainer.steps():
                log.step(facts)
                report.step(facts, log.chars_per_second)
                _show_sample(run, trainer, facts, report)
                ends = facts.stopped_by is not None or request.signal_number is not None
                saver.step(facts, must=ends)
                if request.signal_number is not None:
                    break
    except CharLSTMError:
        report.close()
        raise
    report.close()
    command = shlex.quote(str(run.folder))
    if request.signal_number is not None:
        raise Interrupted(
            f"stopped and saved after step {trainer.progress.step}; go on with: charlstm train --resume {command}",
            signal_number=request.signal_number,
        )
    if facts is None:
        report.line(
            f"{run.folder} has already reached its limits at step {trainer.progress.step}: raise one with --set"
        )
        return
    _say_reached(facts, trainer, report, command)


class _Saver:
    """Saves at the interval, at each new best and at the end; a save that fails is tried again at the next."""

    def __init__(self, run: "Run", trainer: "Trainer", text_sha256: str, report: "Report") -> None:
        self.run = run
        self.trainer = trainer
        self.text_sha256 = text_sha256
        self.report = report
        self.best_is_unsaved = False
        self.failures = 0

    def step(self, facts: "StepFacts", *, must: bool) -> None:
        from charlstm import runs

        self.best_is_unsaved |= facts.is_best
        if not (must or facts.is_best or facts.step % self.run.settings.training.save_every_steps == 0):
            return
        weights, training, progress = self.trainer.export()
        try:
            runs.save_checkpoint(
                self.run,
                step=facts.step,
                weights=weights,
                training=training,
                progress={**progress, "text_sha256": self.text_sha256},
                is_best=facts.is_best,
            )
            self.best_is_unsaved = False
        except InputOutputError as error:
            self.failures += 1
            if must:
                raise
            self.report.line(f"{error}; training goes on and will try again at the next save ({self.failures} failed)")


class _Log:
    """Writes metrics.jsonl, and knows the speed since the last line."""

    def __init__(self, run: "Run", trainer: "Trainer") -> None:
        self.run = run
        self.chars_per_step = trainer.settings.batch_size * trainer.settings.sequence_length
        self.chars_per_second = math.nan
        self._steps, self._seconds = 0, 0.0

    def step(self, facts: "StepFacts") -> None:
        from charlstm import runs

        self._steps += 1
        self._seconds += facts.step_seconds
        logged = facts.step % self.run.settings.training.log_every_steps == 0
        if logged or math.isnan(self.chars_per_second):
            self.chars_per_second = self._steps * self.chars_per_step / self._seconds
        if not (logged or facts.validation is not None or facts.stopped_by is not None):
            return
        line: dict[str, Any] = {
            "step": facts.step,
            "chars": facts.chars,
            "seconds": round(facts.seconds, 3),
            "loss": facts.loss,
            "bits_per_char": facts.loss / math.log(2),
            "learning_rate": facts.learning_rate,
            "grad_norm": facts.grad_norm,
            "chars_per_second": round(self.chars_per_second),
        }
        if facts.validation is not None:
            line["val_loss"] = facts.validation.loss
            line["val_bits_per_char"] = facts.validation.bits_per_char
            line["val_accuracy"] = facts.validation.accuracy
        runs.append_metrics(self.run, line)
        if logged:
            self._steps, self._seconds = 0, 0.0


def _header(run: "Run", trainer: "Trainer", corpus: "Corpus") -> list[tuple[str, str]]:
    from charlstm.model import num_parameters

    settings, model = run.settings, trainer.model
    runtime = trainer.runtime
    train, val = len(trainer.lanes.ids), len(trainer.validation_ids)
    shape = f"{settings.model.num_layers}×{settings.model.hidden_size}"
    rows = [
        (
            "text",
            f"{', '.join(settings.data.sources)}: {corpus.chars:,} {settings.data.unit}s, "
            f"{train:,} train, {val:,} validate",
        ),
        ("vocabulary", f"{corpus.vocab.size:,}"),
        ("model", f"{settings.model.cell} {shape}, {num_parameters(model):,} parameters"),
        ("device", f"{runtime.device.type}, {runtime.threads} threads, {runtime.precision}"),
        ("run", str(run.folder)),
    ]
    if trainer.progress.step:
        rows.append(("resumed", f"after step {trainer.progress.step}"))
    return rows


def _show_sample(run: "Run", trainer: "Trainer", facts: "StepFacts", report: "Report") -> None:
    """At a validation, if the settings ask for it, show what the model writes by now."""
    length = run.settings.training.sample_length
    if facts.validation is None or length is None or report.quiet:
        return
    from charlstm.engine import Engine
    from charlstm.sampling import Choice, generate, take_text

    sampling, vocab = run.settings.sampling, run.vocab
    weights, _, _ = trainer.export()
    choice = Choice(
        temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p, never=vocab.unknown_id
    )
    steps = generate(Engine(weights, run.settings.model), vocab, choice, prompt=[], length=length, seed=facts.step)
    text = b"".join(take_text(one, vocab) for (one,) in steps)
    report.line("".join(c if c.isprintable() or c == "\n" else " " for c in text.decode("utf-8", "replace")))


def _say_reached(facts: "StepFacts", trainer: "Trainer", report: "Report", command: str) -> None:
    best = trainer.progress.best_loss
    reached = f"loss {facts.loss:.4f}"
    if best is not None:
        bits = best / math.log(2)
        reached = f"best val_loss {best:.4f} ({bits:.4f} bits per character) at step {trainer.progress.best_step}"
    minutes, seconds = divmod(round(facts.seconds), 60)
    report.line(
        f"{facts.stopped_by} reached after {facts.step} steps, {facts.chars:,} characters, {minutes} min {seconds} s"
    )
    report.line(f"{reached}")
    report.line(f"sample with: charlstm sample --run {command} --temp 0.8 --top-k 10")
