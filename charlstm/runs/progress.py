"""Where a training run stands: the scalars of its state."""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from charlstm.errors import RunError

MOST_STEPS = 10**15  # of any run; the names of checkpoints have room for as many digits
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_STEPS)]
Amount: TypeAlias = Annotated[float, Meta(ge=0)]


class Progress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With the arrays of a checkpoint, all that a training run needs to go on."""

    step: Count = 0  # steps taken
    seconds: Amount = 0.0  # spent training and validating
    validation_seconds: Amount = 0.0  # of these
    total_steps: Count | None = None  # None until it is known, or when only a patience or the clock ends the run
    total_is_estimate: bool = False  # made from minutes, not set by a limit of steps or epochs
    best_loss: Amount | None = None
    best_step: Count | None = None
    validations_since_best: Count = 0


def decode_progress(data: bytes, *, where: str) -> Progress:
    """The progress in the JSON of a checkpoint. Raises RunError if no training run can have got there."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        fields.pop("text_sha256", None)  # where earlier versions recorded the text
        if fields.keys() != set(Progress.__struct_fields__):
            raise msgspec.ValidationError("some scalars are missing or unknown")
        progress = msgspec.json.decode(msgspec.json.encode(fields), type=Progress)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{where} is damaged: it is not the progress of a training run: {error}") from None
    if (progress.best_step is None) != (progress.best_loss is None) or (progress.best_step or 0) > progress.step:
        problem = "its best step was not taken yet or has no loss"
        raise RunError(f"{where} is damaged: it is not the progress of a training run: {problem}")
    return progress
