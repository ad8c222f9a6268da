"""What a model can be trained for, by the names of `model.objective`, for whoever chooses a run without torch."""

from collections.abc import Mapping
from typing import NamedTuple


class ObjectiveUse(NamedTuple):
    """What a run of an objective does, and the command that uses it for its purpose."""

    does: str
    purpose: str
    command: str
    options: str = ""


OBJECTIVE_USES: Mapping[str, ObjectiveUse] = {
    "next": ObjectiveUse("predicts the next character", "sample", "charlstm sample", " --temp 0.8 --top-k 10"),
    "cloze": ObjectiveUse("fills gaps", "fill gaps", "charlstm fill"),
}
