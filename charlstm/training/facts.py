"""What a session tells about a training run, from its beginning to its end."""

from dataclasses import dataclass
from typing import TypeAlias

from charlstm.runs import Progress, Run
from charlstm.text import Corpus, DocumentCounts
from charlstm.training.trainer import StepFacts, Trainer


@dataclass(frozen=True)
class Began:
    """The run folder stands, and the first step is about to be taken."""

    run: Run
    corpus: Corpus
    trainer: Trainer
    parameters: int
    inherited: str | None  # whose weights it begins with
    documents: DocumentCounts | None  # of a text of many
    chosen: str | None  # the settings that were chosen automatically, and why


@dataclass(frozen=True)
class Validating:
    """A validation begins; the step that it belongs to will be told with what it found."""


@dataclass(frozen=True)
class Stepped:
    """A step was taken; it is logged if it is time to."""

    facts: StepFacts
    chars_per_second: float  # of the last log interval


@dataclass(frozen=True)
class Sampled:
    """What the model writes by now, asked for by training.sample_length."""

    text: str


@dataclass(frozen=True)
class Warned:
    """Something went wrong that does not end the run."""

    message: str


@dataclass(frozen=True)
class Ended:
    """The run is saved and over for now."""

    run: Run
    progress: Progress
    facts: StepFacts | None  # of the last step; None if there was none to take
    stopped_by: str | None  # the setting whose limit was reached; None if the end was asked for


Fact: TypeAlias = Began | Validating | Stepped | Sampled | Warned | Ended
