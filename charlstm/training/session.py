"""A training run as a library call: from settings and text to a run that trains, saves, and can be resumed.

    with start_session(settings, name="novel") as session:
        ended = session.train(tell=print)

Whoever trains is told facts by a callable and may ask for the end by another; what is shown, and how, is theirs.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as replace_field
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from charlstm import runs
from charlstm.errors import InputOutputError, ProcessLostError, RunError, SettingsError, is_out_of_memory
from charlstm.inference import SamplingParameters, build_stepper, generate, take_text
from charlstm.machine import ALONE, Processes
from charlstm.runs import Checkpoint, Run, TextIdentity
from charlstm.settings import Settings, TrainingSettings, override_settings
from charlstm.text import Corpus, DocumentCounts, read_corpus, split_corpus
from charlstm.training.assembly import build_trainer, inherit_model, inherit_run, speed_here, too_large_batch
from charlstm.training.automatic import choose_settings
from charlstm.training.facts import Began, Ended, Fact, Sampled, Stepped, Validating, Warned
from charlstm.training.recorder import Recorder
from charlstm.training.short_texts import (
    duplicates_advice,
    fit_batch,
    fit_document_batch,
    overfitting_advice,
    size_advice,
    validation_advice,
)
from charlstm.training.together import read_text, refuse_different, share_checkpoint, share_run
from charlstm.training.trainer import StepFacts, Trainer
from charlstm.weights import count_weights

# What a resumed run may change: its limits, its intervals and the machine it runs on.
FREE_SETTINGS = frozenset(
    f"training.{name}"
    for name in (
        *("max_steps", "max_epochs", "max_minutes", "patience"),
        *("log_every_steps", "validate_every_steps", "save_every_steps", "sample_length"),
        *("device", "precision", "threads"),
    )
)


@dataclass
class Session:
    """A training run that is assembled. A new one is not on disk yet, the folder of a resumed one is locked."""

    settings: Settings
    corpus: Corpus
    trainer: Trainer
    open_folder: Callable[[], AbstractContextManager[Run]]
    documents: DocumentCounts | None
    inherited: str | None = None
    chosen: str | None = None
    warnings: list[str] = field(default_factory=list)

    def train(
        self, *, tell: Callable[[Fact], None] = lambda _fact: None, stop: Callable[[], int] = lambda: False
    ) -> Ended:
        """Take steps until a limit is reached or `stop`, asked after each, says so; then save.

        Of several processes the first writes; all end after the same step, as soon as `stop` says so in one of them.
        Raises DivergedError, SettingsError if a step needs more memory than there is, ProcessLostError, RunError if the
        folder is replaced or processes differ, and InputOutputError if the first or the last state cannot be saved.
        """
        trainer, processes = self.trainer, self.trainer.processes
        with self.open_folder() as run:
            recorder = Recorder(run, trainer, warn=lambda message: tell(Warned(message)))
            if not trainer.progress.step:  # a disk that refuses is noticed, and any end can be resumed from now on
                recorder.save_now()
            for message in self.warnings:
                tell(Warned(message))
            parameters = count_weights(self.settings.model, self.corpus.vocab.size)
            tell(Began(run, self.corpus, trainer, parameters, self.inherited, self.documents, self.chosen))
            ended = Ended(run, trainer.progress, None, trainer.stopped_by())
            last_loss: float | None = None
            trainer.before_validation = lambda: tell(Validating())
            for facts in _within_memory(trainer.steps(), self.settings.training):
                if facts.step == 1 and processes.leads:
                    _mark_newest(run, tell)
                recorder.log(facts)
                tell(Stepped(facts, recorder.chars_per_second))
                if facts.validation is not None and (text := self._sample(facts.step, stop)):
                    tell(Sampled(text))
                asked = 0
                if trainer.is_agreed(facts.step):
                    asked = int(max(number for (number,) in processes.gather_numbers([stop()])))
                recorder.save(facts, must=bool(asked) or facts.stopped_by is not None)
                ended = Ended(run, trainer.progress, facts, facts.stopped_by, asked)
                if facts.validation is not None:
                    last_loss = facts.validation.loss
                if asked:
                    break
            processes.share_number(0.0)  # a launcher would end the first, saving, soon after another has left
            for message in overfitting_advice(self.settings.model, trainer.progress, last_loss):
                tell(Warned(message))
            tell(ended)
            return ended

    def _sample(self, step: int, stop: Callable[[], int]) -> str | None:
        """What the model writes by now, until `stop`; None if the settings do not ask for it or the model cannot."""
        length, sampling = self.settings.training.sample_length, self.settings.sampling
        if length is None or not (self.trainer.objective.carries_state and self.trainer.processes.leads):
            return None
        vocab = self.corpus.vocab
        stepper = build_stepper(self.trainer.export_weights(), self.settings.model)
        parameters = SamplingParameters.from_settings(sampling)
        steps = generate(stepper, vocab, parameters, prompt=[], length=length, seed=step)
        until_stop = takewhile(lambda _: not stop(), steps)
        return b"".join(take_text(one, vocab) for (one,) in until_stop).decode("utf-8", "replace")


@contextmanager
def start_session(
    settings: Settings,
    *,
    folder: Path | None = None,
    name: str = "default",
    given: Collection[str] | None = None,
    init_from: Path | None = None,
    stdin: BinaryIO | None = None,
    processes: Processes = ALONE,
) -> Iterator[Session]:
    """Assemble a new run: read the text, prepare the machine, build the model, perhaps with another run's weights.

    given: dotted paths of the settings that are to stay as they are, while those that `automatic` can choose are chosen
    for the text, the time and this machine; None to choose none.
    folder: of the run, which must be empty or not there; None for runs/<name>, with a number added if that is taken.
    processes: that train together, each of which calls this; what concerns other runs and the disk is up to rank 0.
    init_from: the run whose best weights it begins with. stdin: read where the settings name "-".
    A text shorter than a batch gets a smaller one, which the settings of the run record.
    Raises SettingsError, TextError, RunError for `init_from`, and InputOutputError, before anything is trained.
    """
    with processes.agreeing():
        settings = override_settings(settings, ())  # which completes them, and checks them together
        if folder is not None and processes.leads:
            runs.refuse_taken(folder)
        other = runs.open_run(init_from) if init_from is not None and processes.leads else None
    told = refuse_different(processes, settings)
    corpus = read_text(processes, lambda: read_corpus(settings.data, stdin=stdin))
    chosen = None
    if given is not None:
        if init_from is not None:
            settings, given = inherit_model(settings, given, share_run(processes, other))
            with processes.agreeing():
                settings = override_settings(settings, ())  # what was inherited may not go with what was given
        settings, chosen = choose_settings(
            settings,
            given,
            chars=len(corpus.ids),
            vocab_size=corpus.vocab.size,
            measure_speed=lambda lanes: speed_here(settings, lanes, processes),
        )
    with processes.agreeing():
        parts, documents = split_corpus(corpus, settings.data, seed=settings.training.seed)
    chars = len(parts.train)
    fit = fit_batch if documents is None else fit_document_batch
    training, warnings = fit(settings.training, chars)
    settings, trainer = build_trainer(replace(settings, training=training), corpus, parts, processes)
    warnings += duplicates_advice(settings.data, documents) if documents is not None else []
    with processes.agreeing():
        warnings += told + _advice_on_processes(trainer)
    if given is None:  # whoever has the settings chosen cannot heed it
        warnings += size_advice(settings.model, count_weights(settings.model, corpus.vocab.size), chars)
        warnings += validation_advice(settings.training, len(parts.val))
    inherited: str | None = None
    with processes.agreeing():
        if other is not None:
            inherited = inherit_run(trainer, settings, corpus, other)
    if processes.size > 1:
        trainer.restore(share_checkpoint(processes, trainer.export() if processes.leads else None))

    @contextmanager
    def open_folder() -> Iterator[Run]:
        run: Run | None = None
        with processes.agreeing():
            if processes.leads:
                run = runs.create_run(folder, settings, corpus.vocab, TextIdentity(corpus.fingerprint), name=name)
        run = share_run(processes, run)
        if not processes.leads:
            yield run
            return
        with runs.only_writer(run):
            try:
                yield run
            except ProcessLostError:  # the first state is saved, and can be gone on from
                raise
            except (SettingsError, InputOutputError):  # no memory for a step, or no disk for what comes before it
                if not trainer.progress.step:
                    runs.discard_run(run)
                raise

    yield Session(settings, corpus, trainer, open_folder, documents, inherited, chosen, warnings)


@contextmanager
def resume_session(
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    stdin: BinaryIO | None = None,
    trust_sources: bool = False,
    processes: Processes = ALONE,
) -> Iterator[Session]:
    """Assemble a run that goes on from its latest checkpoint; its folder is locked.

    overrides: of FREE_SETTINGS and of how it samples.
    trust_sources: whether to read what its settings name if its text is not in the cache.
    processes: that train together, of any number; rank 0 alone reads the folder.
    Raises RunError if its text has changed or every checkpoint is damaged, SettingsError for any other override.
    """
    opened: Run | None = None
    read: Checkpoint | None = None
    damage: list[RunError] = []
    with ExitStack() as stack:
        with processes.agreeing():
            if processes.leads:
                opened = runs.open_run(folder)
                _refuse_changes(opened, override_settings(opened.settings, overrides))
                stack.enter_context(runs.only_writer(opened))
                read, damage = runs.read_newest_undamaged(opened)
        run = share_run(processes, opened)
        with processes.agreeing():
            settings = override_settings(run.settings, overrides)
        told = refuse_different(processes, settings)
        corpus = read_text(
            processes, lambda: runs.own_corpus(run, stdin=stdin, reread=True, trust_sources=trust_sources)
        )
        with processes.agreeing():
            parts, documents = split_corpus(corpus, settings.data, seed=settings.training.seed)
        settings, trainer = build_trainer(settings, corpus, parts, processes)
        checkpoint = share_checkpoint(processes, read)
        with processes.agreeing():
            trainer.restore(checkpoint)

        @contextmanager
        def open_folder() -> Iterator[Run]:
            if not processes.leads:
                yield replace_field(run, settings=settings)
                return
            if checkpoint.progress.best_step is not None:
                runs.point_best(run, checkpoint.progress.best_step)
            warnings.extend(runs.cut_metrics(run.folder, checkpoint.progress.step))
            yield runs.rewrite_settings(run, settings)

        warnings = [f"{error}; going on from {checkpoint.name}" for error in damage]
        with processes.agreeing():
            warnings += told + _advice_on_processes(trainer)
        yield Session(settings, corpus, trainer, open_folder, documents, warnings=warnings)


def _mark_newest(run: Run, tell: Callable[[Fact], None]) -> None:
    try:
        runs.mark_newest(run)
    except InputOutputError as error:
        tell(Warned(f"{error}; name this run with --run to sample from it"))


def _within_memory(steps: Iterator[StepFacts], settings: TrainingSettings) -> Iterator[StepFacts]:
    """The steps; one that needs more memory than there is raises SettingsError."""
    try:
        yield from steps
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise too_large_batch(settings) from None


def _refuse_changes(run: Run, settings: Settings) -> None:
    """Raise SettingsError for a change that would make it another run."""
    for section in ("data", "model", "training"):
        old, new = getattr(run.settings, section), getattr(settings, section)
        for name in old.__struct_fields__:
            before, now = getattr(old, name), getattr(new, name)
            if before != now and f"{section}.{name}" not in FREE_SETTINGS:
                raise SettingsError(
                    f"--set {section}.{name}={now} differs from {before}, with which {run.folder} was trained: "
                    "a resumed run may only change its limits, intervals and device, so start a new run for this"
                )


def _advice_on_processes(trainer: Trainer) -> list[str]:
    """A word where processes have nothing to do. Raises SettingsError where local steps then make no sense."""
    processes, shards = trainer.processes.size, trainer.machine.shards
    if processes <= shards:
        return []
    if trainer.settings.local_steps > 1:
        problem = f"is {trainer.settings.local_steps}, but of {processes} processes only {shards} have a shard"
        raise SettingsError(f"training.local_steps {problem}: raise training.shards, or start fewer processes")
    return [f"only {shards} of {processes} processes have work, as training.shards is {shards}"]
