"""Where a training run stands: the scalars of its state."""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from charlstm.errors import RunError

MOST_STEPS = 10**15 - 1  # of any run; the names of checkpoints hold as many digits
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_STEPS)]
Amount: TypeAlias = Annotated[float, Meta(ge=0)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Few: TypeAlias = Annotated[tuple[Amount, ...], Meta(max_length=100)]

_OF_EARLIER_VERSIONS = ("text_sha256", "total_is_estimate", "validation_seconds")
_SINCE = {"plan", "pace", "chars"}  # an earlier version


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For which limits `total_steps` was decided last, at which step, and how far the learning rate had come there."""

    max_steps: Count | None = None  # by the limits of steps and epochs
    max_minutes: Amount | None = None
    step: Count = 0
    fraction: Fraction = 0.0  # of the way from the end of the warm-up to the end of the run


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long steps and validations take, from which a limit of minutes is planned."""

    steps: Amount = 0.0  # taken, those of the last seconds weighing most
    seconds: Amount = 0.0  # that these took, with what lay before each
    recent_steps: Few = ()  # seconds of the last few, as measured
    recent_validations: Few = ()  # how many steps would have taken as long as each of the last few


class Progress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With the arrays of a checkpoint, all that a training run needs to go on."""

    step: Count = 0  # steps taken
    chars: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0  # trained on; unknown of an earlier version, which has 0 here
    seconds: Amount = 0.0  # spent from the first step on, without those for which the process was stopped
    total_steps: Count | None = None  # None until it is known
    plan: Plan = Plan()
    pace: Pace = Pace()
    best_loss: Amount | None = None
    best_step: Count | None = None
    validations_since_best: Count = 0


def decode_progress(data: bytes, *, where: str) -> Progress:
    """The progress in the JSON of a checkpoint. Raises RunError if no training run can have got there."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        for name in _OF_EARLIER_VERSIONS:
            fields.pop(name, None)
        if fields.keys() | _SINCE != set(Progress.__struct_fields__):
            raise msgspec.ValidationError("some scalars are missing or unknown")
        progress = msgspec.json.decode(msgspec.json.encode(fields), type=Progress)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{where} is damaged: it is not the progress of a training run: {error}") from None
    if (progress.best_step is None) != (progress.best_loss is None) or (progress.best_step or 0) > progress.step:
        problem = "its best step was not taken yet or has no loss"
        raise RunError(f"{where} is damaged: it is not the progress of a training run: {problem}")
    return progress
