"""Short texts: a batch that fits, a model that is not too large, one that was learned by heart; and duplicates."""

from msgspec.structs import replace

from charlstm.runs import Progress
from charlstm.settings import DataSettings, ModelSettings, TrainingSettings
from charlstm.text import DocumentCounts

LEAST_BATCHES = 4  # in a text that is shorter than the batch of its settings
CHARS_A_MINUTE = 500_000  # of validation text; a slow machine needs a tenth of a minute or two for them
TURNED_NATS = 0.01  # above the best validation loss, of two validations or more later: more than the noise of a step
MOST_PARAMETERS = 10  # for each character; the table in configs/own-text.yaml goes from 2.5 down to 0.04


def fit_batch(training: TrainingSettings, chars: int) -> tuple[TrainingSettings, list[str]]:
    """The settings, with fewer lanes and shorter windows where no batch fits into so many characters, and a word.

    Four batches fit then, so that no more than a fifth of a lane follows its last whole window. A text of fewer than 2
    characters, too short for any batch, is left to `Lanes` to refuse.
    """
    lanes, window = training.batch_size, training.sequence_length
    if lanes * window < chars:  # each character needs the one after it
        return training, []
    while lanes * window > 1 and LEAST_BATCHES * lanes * window >= chars:
        # towards windows four times as long as there are lanes, as configs/own-text.yaml has them
        lanes, window = (lanes, window // 2) if window > 4 * lanes or lanes == 1 else (lanes // 2, window)
    told = (
        f"the {chars:,} characters to train on are fewer than {training.batch_size} lanes of "
        f"{training.sequence_length}: training.batch_size is {lanes} and training.sequence_length {window} instead"
    )
    return replace(training, batch_size=lanes, sequence_length=window), [told]


def fit_document_batch(training: TrainingSettings, chars: int) -> tuple[TrainingSettings, list[str]]:
    """The settings, with fewer lanes where so many characters of documents are fewer than four batches."""
    lanes, window = training.batch_size, training.sequence_length
    while lanes > 1 and LEAST_BATCHES * lanes * window > chars:
        lanes //= 2
    if lanes == training.batch_size:
        return training, []
    told = f"the {chars:,} characters to train on are few: training.batch_size is {lanes} instead of"
    return replace(training, batch_size=lanes), [f"{told} {training.batch_size}"]


def duplicates_advice(data: DataSettings, counts: DocumentCounts) -> list[str]:
    """A word on documents that occur more than once, and to whoever validates on what was trained on."""
    if not counts.duplicates:
        return []
    done = "are left out" if data.deduplicate == "drop" else "stay, all equal ones in one part of the split"
    if counts.shared:
        done = f"stay, {counts.shared:,} of them to validate or test on though they are trained on, which flatters"
    advice = "" if data.deduplicate == "drop" else " (data.deduplicate=drop leaves them out)"
    return [f"{counts.duplicates:,} of the documents repeat earlier ones: they {done}{advice}"]


def size_advice(model: ModelSettings, parameters: int, chars: int) -> list[str]:
    """A word to whoever trains many more parameters than a text has characters, and has not met it by settings."""
    wanted = ["model.hidden_size=128 or less"] * (model.hidden_size > 128)
    wanted += ["model.dropout=0.2 or more"] * (model.dropout < 0.2)
    if not wanted or parameters <= MOST_PARAMETERS * chars:
        return []
    return [
        f"{parameters:,} parameters can learn {chars:,} characters by heart: up to 100,000 characters, new text is "
        f"predicted better with {' and '.join(wanted)}"
    ]


def validation_advice(training: TrainingSettings, validation_chars: int) -> list[str]:
    """A word to whoever has minutes for training and much to validate on."""
    if training.max_minutes is None or validation_chars <= CHARS_A_MINUTE * training.max_minutes:
        return []
    return [
        f"each validation reads {validation_chars:,} characters, which may take much of {training.max_minutes:g} min: "
        "data.split=[0.98,0.02,0.0] leaves more of it for training"
    ]


def overfitting_advice(model: ModelSettings, progress: Progress, last_loss: float | None) -> list[str]:
    """A word to whoever trained on after the validation loss had turned. last_loss: of the last validation, in nats."""
    best = progress.best_loss
    if last_loss is None or best is None or progress.validations_since_best < 2 or last_loss < best + TURNED_NATS:
        return []
    return [
        f"after step {progress.best_step} of {progress.step} the model only learned the training text by heart: the "
        f"validation loss has risen by {last_loss - best:.2f} since. The best model is kept; more model.dropout "
        f"(here {model.dropout:g}), more model.recurrent_dropout (here {model.recurrent_dropout:g}) or a smaller "
        f"model.hidden_size (here {model.hidden_size}) lets it learn for longer"
    ]
