"""Automatic settings: a model and how to train it, from the text, the time there is, and the speed of the machine.

Letters: `N` characters of the text.

The constants are fitted on texts from 20 kB to 46 MB; docs/learning.md has the trials, and a search beside them.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec.structs import replace

from charlstm.settings import ModelSettings, Settings
from charlstm.text import cut_places
from charlstm.training.schedule import highest_rate
from charlstm.training.short_texts import fit_batch, fit_document_batch
from charlstm.weights import count_weights, training_flop

HIDDEN_SIZES = (96, 128, 160, 192, 256, 384, 512, 768, 1024)
TRAINING_SHARE = 0.85  # of the time, that passes through the layers take; the optimiser and validations have the rest
CHARS_A_WEIGHT = 8.0  # that training must read, or a smaller model learns more in the same time
MOST_PASSES = 100  # over the text, however much time there is
PASSES_WITHOUT_DROPOUT = 3.0  # over the text, which do not learn it by heart
DROPOUT_A_DOUBLING, MOST_DROPOUT = 0.1, 0.6  # of the passes over the text
RECURRENT_SHARE = 0.6  # of the dropout, for recurrent weights
LANES, FEW_LANES, SHORT_TEXT_CHARS = 64, 16, 50_000  # a shorter text gets few lanes, or it had too few steps a pass
WINDOW_CHARS = 64
MOST_VALIDATED_CHARS = 250_000  # which measures to a few thousandths of a nat; a tenth of a text that has fewer
MOST_VALIDATIONS = 10  # in a run, or as many as add a tenth to the time of training
VALIDATION_COST = 1 / 3  # of training on as many characters


def choose_settings(
    settings: Settings,
    given: Collection[str],
    *,
    chars: int,
    vocab_size: int,
    measure_speed: Callable[[int], float],
) -> tuple[Settings, str]:
    """The settings with all that is not among those given chosen anew, and a line that says what and why.

    given: dotted paths. chars: N. measure_speed: floating-point operations a second of passes with so many lanes here.
    """
    training = settings.training
    split = settings.data.split if "data.split" in given else _split(settings.data.split, chars)
    end_of_train, end_of_val = cut_places(chars, split)
    to_train, to_validate = max(1, end_of_train), max(1, end_of_val - end_of_train)
    batch = training
    if "training.batch_size" not in given:
        batch = replace(batch, batch_size=FEW_LANES if to_train < SHORT_TEXT_CHARS else LANES)
    if "training.sequence_length" not in given:
        batch = replace(batch, sequence_length=WINDOW_CHARS)
    fit = fit_batch if settings.data.documents == "stream" else fit_document_batch
    fitted, _ = fit(batch, to_train)  # as the session fits it, too
    lanes, window = fitted.batch_size, fitted.sequence_length
    if not {"training.batch_size", "training.sequence_length"}.intersection(given):
        batch = fitted  # beside a half that is given, the other would be fitted twice
    flop_per_second = measure_speed(min(lanes, LANES))
    most_passes = training.max_epochs or MOST_PASSES
    most_steps = training.max_steps or math.inf
    seconds = 60 * training.max_minutes if training.max_minutes is not None else math.inf

    def chars_read(model: ModelSettings) -> float:
        in_time = TRAINING_SHARE * seconds * flop_per_second / training_flop(model, vocab_size)
        return min(in_time, most_passes * to_train, most_steps * lanes * window)

    models = _models(settings.model, given)
    fitting = [model for model in models if chars_read(model) >= CHARS_A_WEIGHT * count_weights(model, vocab_size)]
    model = fitting[-1] if fitting else models[0]
    passes = chars_read(model) / to_train
    doublings = math.log2(max(1.0, passes / PASSES_WITHOUT_DROPOUT))
    dropout = min(MOST_DROPOUT, DROPOUT_A_DOUBLING * doublings)
    steps = math.ceil(passes * to_train / (lanes * window))
    validations = min(MOST_VALIDATIONS, 0.1 * passes * to_train / (VALIDATION_COST * to_validate))
    every = max(1, math.ceil(steps / max(1, validations)))
    chosen: dict[str, Any] = {
        "data.split": split,
        "model.hidden_size": model.hidden_size,
        "model.embedding_size": model.embedding_size,
        "model.dropout": round(dropout, 2),
        "model.recurrent_dropout": round(RECURRENT_SHARE * dropout, 2),
        "training.batch_size": batch.batch_size,
        "training.sequence_length": batch.sequence_length,
        "training.learning_rate": highest_rate(replace(training, learning_rate="auto"), model.hidden_size),
        "training.validate_every_steps": every,
        "training.save_every_steps": min(every, training.save_every_steps),
    }
    if passes == MOST_PASSES:
        chosen["training.max_epochs"] = MOST_PASSES
    if split == settings.data.split:
        del chosen["data.split"]
    chosen = {path: value for path, value in chosen.items() if path not in given}
    passed = f"{passes:{',.0f' if passes >= 10 else '#.2g'}} passes over {to_train:,} {settings.data.unit}s"
    told = f"{_in_words(chosen)}; for about {passed}, at {flop_per_second / 1e9:,.0f} GFLOP/s here"
    for path, value in chosen.items():
        section, _, name = path.partition(".")
        settings = replace(settings, **{section: replace(getattr(settings, section), **{name: value})})
    return settings, told


def _split(split: tuple[float, float, float], chars: int) -> tuple[float, float, float]:
    """The split, or one that validates less of a long text."""
    if split[1] * chars <= MOST_VALIDATED_CHARS:
        return split
    validated = float(f"{MOST_VALIDATED_CHARS / chars:.2g}")
    return round(1 - validated, 9), validated, 0.0


def _models(model: ModelSettings, given: Collection[str]) -> list[ModelSettings]:
    """Those that may be chosen, the smallest first."""
    models = [model]
    if "model.hidden_size" not in given:
        models = [replace(model, hidden_size=size) for size in HIDDEN_SIZES]
    if "model.embedding_size" not in given:
        models = [replace(model, embedding_size=min(128, model.hidden_size)) for model in models]
    return models


def _in_words(chosen: Mapping[str, Any]) -> str:
    """What was chosen, in a line."""
    shown = {path.partition(".")[2]: value for path, value in chosen.items() if path != "training.save_every_steps"}
    return ", ".join(
        f"{name} {'/'.join(f'{part:g}' for part in value) if isinstance(value, tuple) else value}"
        for name, value in shown.items()
    )
