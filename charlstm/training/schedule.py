"""When a training run ends and how fast it learns until then: functions of its settings and its steps."""

import math

from msgspec.structs import replace

from charlstm.runs import MOST_STEPS, Progress
from charlstm.settings import TrainingSettings

FORWARD_FRACTION = 1 / 3  # of a training step's time; the backward pass takes about twice the forward one


def total_steps_of(settings: TrainingSettings, steps_per_epoch: int) -> int | None:
    """The fewest steps that max_steps and max_epochs allow, None if neither is set."""
    epochs = settings.max_epochs
    limits = [settings.max_steps, epochs * steps_per_epoch if epochs is not None else None]
    return min((min(limit, MOST_STEPS) for limit in limits if limit is not None), default=None)


def minutes_alone(settings: TrainingSettings) -> bool:
    """Whether neither steps nor epochs limit the run."""
    return settings.max_steps is None and settings.max_epochs is None


def stopped_by(settings: TrainingSettings, progress: Progress) -> str | None:
    """The setting whose limit has been reached, None while none is."""
    by_minutes = minutes_alone(settings)
    if progress.total_steps is not None and progress.step >= progress.total_steps:
        if by_minutes:
            return "training.max_minutes"
        reached = settings.max_steps is not None and progress.step >= settings.max_steps
        return "training.max_steps" if reached else "training.max_epochs"
    minutes = settings.max_minutes
    if not by_minutes and minutes is not None and progress.seconds >= 60 * minutes:
        return "training.max_minutes"
    if settings.patience is not None and progress.validations_since_best >= settings.patience:
        return "training.patience"
    return None


def estimate_total_steps(
    settings: TrainingSettings, progress: Progress, *, chars_per_step: int, validation_chars: int
) -> Progress:
    """With minutes as the only limit, turn them into steps once, from the speed so far.

    The first twentieth of the time (at most 30 s, at least 10 steps) is measured; until then the learning rate takes
    the end to be far away. From then on the run is a function of its steps, and the clock no longer matters.
    """
    assert settings.max_minutes is not None
    budget = 60 * settings.max_minutes
    if progress.step < 10 or progress.seconds < min(30.0, budget / 20):
        return progress
    seconds_per_step = (progress.seconds - progress.validation_seconds) / progress.step
    validation_steps = FORWARD_FRACTION * validation_chars / chars_per_step
    fraction_of_steps = 1 / (1 + validation_steps / settings.validate_every_steps)
    remaining = ((budget - progress.seconds) / seconds_per_step - validation_steps) * fraction_of_steps
    return replace(progress, total_steps=progress.step + max(1, round(remaining)), total_is_estimate=True)


def learning_rate_at(step: int, settings: TrainingSettings, total_steps: int | None) -> float:
    """The rate of a step counted from 0: a linear warm-up, then constant or a half cosine to 0 at `total_steps`.

    With `total_steps` None, the end not being known, the cosine stays at its top.
    """
    warmup = settings.warmup_steps
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.schedule == "constant" or total_steps is None:
        return settings.learning_rate
    elapsed = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * elapsed))
