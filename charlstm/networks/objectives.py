"""What a model is trained to predict: one object per objective, with its model, its targets and its loss.

Letters: `T` steps, `B` lanes, `V` vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor
from torch.nn import functional as F

from charlstm.networks.models import CharLM, ClozeLM

Model: TypeAlias = CharLM | ClozeLM

UNCOUNTED = -100  # the target that cross_entropy leaves out


@dataclass(frozen=True)
class Objective:
    """An objective: which model has it, and what its logits are held against."""

    build_model: type[CharLM] | type[ClozeLM]  # from V, the settings and a seed
    targets: Callable[[Tensor, Tensor], Tensor]  # from the characters read and those that follow them, (T, B) each
    protocols: tuple[str, ...]  # by which it is evaluated (`evaluation`), the default first
    carries_state: bool  # whether the model reads on from a state, and so can go on with a text

    def counted_targets(self, inputs: Tensor, following: Tensor, mask: Tensor) -> Tensor:
        """The targets (T, B) of what is counted, UNCOUNTED elsewhere. inputs, following, mask: (T, B)."""
        return self.targets(inputs, following).masked_fill(~mask, UNCOUNTED)

    def loss(self, logits: Tensor, inputs: Tensor, following: Tensor, mask: Tensor) -> Tensor:
        """Cross-entropy of logits (T, B, V), summed over the targets that are counted, in nats."""
        targets = self.counted_targets(inputs, following, mask)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=UNCOUNTED, reduction="sum")


OBJECTIVES: Mapping[str, Objective] = {
    "next": Objective(CharLM, lambda _, after: after, ("stream", "windows"), carries_state=True),
    "cloze": Objective(ClozeLM, lambda inputs, _: inputs, ("cloze",), carries_state=False),
}
