"""When a training run ends and how fast it learns until then: functions of its settings and of its recorded progress.

A limit of minutes is turned into a number of steps before every step, from the time that is left and the pace of the
last seconds. The learning rate goes the same way in the steps that are left as it would have gone in any other number:
after the first plan it does not jump, and it is at its end when the time is. What was decided and from what is recorded
(`Plan`, `Pace`), so a run that is resumed goes on with the plan that it had.

A process that is stopped (SIGSTOP, Ctrl-Z, a suspended machine) must not lose its time: what takes far longer than
usual counts as what is usual.
"""

import math
from collections.abc import Sequence

from msgspec.structs import replace

from charlstm.runs import MOST_STEPS, Pace, Plan, Progress
from charlstm.settings import TrainingSettings

FORWARD_FRACTION = 1 / 3  # of a training step's time; the backward pass takes about twice the forward one
PACE_SECONDS = 5.0  # after which a step weighs 1/e in the pace: calm beside tiny steps, quick beside the least minutes
RECENT_STEPS, RECENT_VALIDATIONS = 9, 4
FAR_LONGER, STALL_SECONDS = 5.0, 2.0  # than usual, in both ways: a stop, and not the machine being slow
MEASURED_STEPS = 5  # before the first plan, or 2 if a quarter of the time is over by then
MOST_SECONDS = 1e12  # of any plan
MUON_RATE, MUON_SIZE = 0.02, 192  # units of a layer, of which fewer take a higher rate; docs/learning.md has the trials
ADAM_RATE, ADAM_SIZE = 0.016, 256  # of which more take a lower one
CALM = 50  # a plan is left as it is while it is wrong by less than this part of the steps that are left


def total_steps_of(settings: TrainingSettings, steps_per_epoch: int) -> int | None:
    """The fewest steps that max_steps and max_epochs allow, None if neither is set."""
    epochs = settings.max_epochs
    limits = [settings.max_steps, epochs * steps_per_epoch if epochs is not None else None]
    return min((min(limit, MOST_STEPS) for limit in limits if limit is not None), default=None)


def stopped_by(settings: TrainingSettings, progress: Progress) -> str | None:
    """The setting whose limit has been reached, None while none is."""
    step, limit, minutes = progress.step, progress.plan.max_steps, settings.max_minutes
    if limit is not None and step >= limit:
        reached = settings.max_steps is not None and step >= settings.max_steps
        return "training.max_steps" if reached else "training.max_epochs"
    planned = progress.total_steps is not None and step >= progress.total_steps
    if minutes is not None and (planned or progress.seconds >= 60 * minutes):
        return "training.max_minutes"
    if settings.patience is not None and progress.validations_since_best >= settings.patience:
        return "training.patience"
    return None


def begin_plan(progress: Progress, settings: TrainingSettings, max_steps: int | None) -> Progress:
    """The progress with a plan for these limits: the one it has if it was made for them, else a new one.

    max_steps: by `total_steps_of`.
    """
    plan = Plan(max_steps=max_steps, max_minutes=settings.max_minutes)
    if (progress.plan.max_steps, progress.plan.max_minutes) == (plan.max_steps, plan.max_minutes):
        return progress
    return replace(progress, total_steps=max_steps, plan=plan)


def plan_steps(
    progress: Progress, settings: TrainingSettings, *, chars_per_step: int, validation_chars: int
) -> Progress:
    """The progress with the number of steps for which the minutes suffice by now, before the next step is taken."""
    if settings.max_minutes is None:
        return progress
    step, planned, plan = progress.step, progress.total_steps, progress.plan
    budget = min(60 * settings.max_minutes, MOST_SECONDS)
    in_time = MOST_STEPS
    if step >= MEASURED_STEPS or (step >= 2 and progress.seconds > budget / 4):
        step_seconds, left = _seconds_per_step(progress.pace), budget - progress.seconds
        validation = step_seconds * validation_steps(progress.pace, chars_per_step, validation_chars)
        in_time = step + max(1, _steps_within(left, step, settings.validate_every_steps, step_seconds, validation))
    total = min(in_time, plan.max_steps or MOST_STEPS)
    if total == MOST_STEPS:
        return progress
    if planned is None:
        return replace(progress, total_steps=total)
    if CALM * abs(total - planned) <= planned - step:
        return progress
    fraction = decay_fraction(step, settings, planned, plan)
    return replace(progress, total_steps=total, plan=replace(plan, step=step, fraction=fraction))


def count_step(progress: Progress, seconds: float, *, chars: int = 0) -> Progress:
    """Count a step that was taken on so many characters."""
    pace = progress.pace
    counted = _without_stall(seconds, _usual(pace.recent_steps) if pace.recent_steps else seconds)
    if len(pace.recent_steps) == 1:
        pace = replace(pace, steps=0.0, seconds=0.0)  # the first step is slower than all others, and may be a stall
    weight = math.exp(-counted / PACE_SECONDS)
    pace = replace(
        pace,
        steps=pace.steps * weight + 1,
        seconds=pace.seconds * weight + counted,
        recent_steps=(*pace.recent_steps, seconds)[-RECENT_STEPS:],
    )
    return replace(
        progress, step=progress.step + 1, chars=progress.chars + chars, seconds=progress.seconds + counted, pace=pace
    )


def count_validation(progress: Progress, seconds: float, *, chars_per_step: int, validation_chars: int) -> Progress:
    """Count a validation that was made."""
    pace, step_seconds = progress.pace, _seconds_per_step(progress.pace)
    counted = _without_stall(seconds, step_seconds * validation_steps(pace, chars_per_step, validation_chars))
    recent = (*pace.recent_validations, min(seconds / step_seconds, MOST_STEPS))[-RECENT_VALIDATIONS:]
    return replace(progress, seconds=progress.seconds + counted, pace=replace(pace, recent_validations=recent))


def counted_pause(progress: Progress, seconds: float, *, worked: float) -> float:
    """How many seconds count of those that lay between two steps: saving, sampling, logging.

    All of them, or where they are far more than validating takes, those for which this process `worked` on a processor:
    the others may have been a stop, which cannot be told from a disk as slow as that.
    """
    pace = progress.pace
    validation = _usual(pace.recent_validations) * _seconds_per_step(pace)
    is_stall = _without_stall(seconds, max(_usual(pace.recent_steps), validation)) < seconds
    return min(seconds, worked) if is_stall else seconds


def count_pause(progress: Progress, seconds: float) -> Progress:
    """Count what lay between two steps."""
    pace = replace(progress.pace, seconds=progress.pace.seconds + seconds)
    return replace(progress, seconds=progress.seconds + seconds, pace=pace)


def validation_steps(pace: Pace, chars_per_step: int, validation_chars: int) -> float:
    """How many steps take as long as a validation: as many as the last ones, a guess before there were any."""
    guess, found = FORWARD_FRACTION * validation_chars / chars_per_step, pace.recent_validations
    return _usual(found) if len(found) > 1 or (found and found[0] < FAR_LONGER * guess) else guess


def seconds_left(
    progress: Progress, settings: TrainingSettings, *, chars_per_step: int, validation_chars: int
) -> float | None:
    """How long the run still takes at its present pace; None while its end is not known."""
    step, total, pace = progress.step, progress.total_steps, progress.pace
    if settings.max_minutes is not None and (total is None or total != progress.plan.max_steps):
        return max(0.0, min(60 * settings.max_minutes, MOST_SECONDS) - progress.seconds)
    if total is None:
        return None
    every = settings.validate_every_steps
    validations = total // every - step // every + (total % every > 0)  # the last is at the end
    steps = total - step + validations * validation_steps(pace, chars_per_step, validation_chars)
    return steps * _seconds_per_step(pace)


def highest_rate(settings: TrainingSettings, hidden_size: int) -> float:
    """The learning rate after the warm-up: that of the settings, or one that suits their optimiser and layers so large.

    Adam moves each weight by about as much, however many of them a unit adds up, so that more take a lower rate (Yang
    et al. 2021, "Tensor programs V", table 3). Muon's steps allow for that; small layers still learned more at a
    higher rate.
    """
    if settings.learning_rate != "auto":
        return settings.learning_rate
    if settings.optimizer == "muon":
        rate = MUON_RATE * max(1.0, MUON_SIZE / hidden_size)
    else:
        rate = ADAM_RATE * min(1.0, ADAM_SIZE / hidden_size)
    return float(f"{rate:.2g}")


def learning_rate_at(
    step: int, highest: float, settings: TrainingSettings, total_steps: int | None, plan: Plan | None = None
) -> float:
    """The rate of a step counted from 0: a linear warm-up, then constant or a half cosine to 0 at `total_steps`.

    highest: by `highest_rate`. With `total_steps` None, the end not being known, the cosine stays where the plan began.
    """
    if step < settings.warmup_steps:
        return highest * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return highest
    fraction = decay_fraction(step, settings, total_steps, plan or Plan())
    return highest * 0.5 * (1.0 + math.cos(math.pi * fraction))


def decay_fraction(step: int, settings: TrainingSettings, total_steps: int | None, plan: Plan) -> float:
    """How far the learning rate has come at a step, from 0 at the end of the warm-up to 1 at `total_steps`."""
    begin = max(plan.step, settings.warmup_steps)
    if total_steps is None or step <= begin:
        return plan.fraction
    return plan.fraction + (1.0 - plan.fraction) * min(1.0, (step - begin) / max(1, total_steps - begin))


def _steps_within(left: float, step: int, every: int, step_seconds: float, validation: float) -> int:
    """How many steps after `step` the time that is left suffices for, with a validation every so often and last."""
    to_first = every - step % every
    first = to_first * step_seconds + validation
    steps = 0.0
    if left >= first:
        period = every * step_seconds + validation
        periods = (left - first) // period
        steps, left = to_first + periods * every, left - first - periods * period
    steps += max(0.0, (left - validation) / step_seconds)
    return round(min(steps, MOST_STEPS))


def _seconds_per_step(pace: Pace) -> float:
    mean, usual = max(pace.seconds, 1e-9) / max(pace.steps, 1.0), _usual(pace.recent_steps)
    return usual if usual > 2 * mean else mean  # the mean needs long to follow where all is suddenly much slower


def _usual(seconds: Sequence[float]) -> float:
    """The lower median, which one stall does not move; 0 for none."""
    return sorted(seconds)[(len(seconds) - 1) // 2] if seconds else 0.0


def _without_stall(seconds: float, usual: float) -> float:
    return usual if seconds > max(FAR_LONGER * usual, usual + STALL_SECONDS) else seconds
