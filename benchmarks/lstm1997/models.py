"""The model of a task: a core of `charlstm.networks` between inputs as they are, or one unit a symbol, and a read-out.

Letters: `T` steps, `B` sequences, `I` numbers or symbols of an input, `O` output units, `H` hidden.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.lstm1997.tasks import Task, last_counted
from charlstm.cells import State
from charlstm.networks.cores import NO_MASKS, Core, Masks, build_core
from charlstm.settings import CellName, ModelSettings


class TaskModel(nn.Module):
    """One output a step, from all that was read until then."""

    def __init__(
        self,
        task: Task,
        *,
        cell: CellName,
        hidden_size: int,
        memory: int | None,
        direct: float | None = None,
        seed: int,
    ) -> None:
        """memory: the longest time lag that the initial gates shall span (`spread_memory`); None: those of the core.

        direct: outputs also read the inputs themselves, as the paper's do, by weights that are multiplied by this. Adam
        moves every weight by about as much, so that these learn so many times as fast as the core. None: they do not.
        """
        super().__init__()
        self.input_size, self.direct = task.input_size, direct
        settings = ModelSettings(
            cell=cell,
            embedding_size=task.input_size,
            hidden_size=hidden_size,
            num_layers=1,
            skip_connections=False,
            dropout=0.0,
        )
        self.core = build_core(settings)
        self.output = nn.Linear(hidden_size, task.output_size)
        self.from_inputs = None if direct is None else nn.Linear(task.input_size, task.output_size, bias=False)
        generator = torch.Generator().manual_seed(seed)
        self.core.initialise(forget_bias=settings.forget_bias, generator=generator)
        if memory is not None:
            spread_memory(self.core, memory, generator)
        with torch.no_grad():
            nn.init.xavier_uniform_(self.output.weight, generator=generator)
            self.output.bias.zero_()
            if self.from_inputs is not None:
                self.from_inputs.weight.zero_()

    def forward(
        self, inputs: Tensor, state: State | None = None, *, masks: Masks = NO_MASKS, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, State]:
        """Outputs (T, B, O), before any softmax. inputs: (T, B) symbols or (T, B, I) numbers."""
        # not F.one_hot, whose eight bytes a unit took half of the time of a test with a thousand symbols
        x = inputs.to(dtype) if inputs.is_floating_point() else torch.eye(self.input_size, dtype=dtype)[inputs]
        hidden, state = self.core(x, state, masks=masks)
        outputs = self.output(hidden)
        if self.from_inputs is not None:
            outputs = outputs + self.direct * self.from_inputs(x)
        return outputs, state


@torch.no_grad()
def spread_memory(core: Core, longest: int, generator: torch.Generator) -> None:
    """Gates that at first keep the state for 1 to `longest` steps, a unit each: Tallec & Ollivier 2018, equation 16.

    b_f = ln(u), b_i = −b_f with u uniform on [1, longest − 1]; a GRU keeps by its update gate. No gates, no change.
    """
    weights, size = core.layer_weights(0), core.hidden_size
    kept = torch.empty(size).uniform_(1, longest - 1, generator=generator).log()
    for sign, names in ((1, "fz"), (-1, "i")):
        for place, gate in enumerate(core.cell.gates):
            if gate in names:
                weights["bias_ih"][place * size : (place + 1) * size] = sign * kept


class TaskLoss:
    """The loss of a task, as the trainer's objective; it remembers the errors of the batch that it has last seen.

    Squared error for numbers, cross-entropy for output units, summed over the targets that are counted; a sequence's
    last one counts `end_weight` times.
    """

    def __init__(self, task: Task, end_weight: float = 1.0) -> None:
        self.task, self.end_weight = task, end_weight
        self.errors = torch.empty(0)  # (B,), one a sequence

    def loss(self, outputs: Tensor, inputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """outputs: (T, B, O). targets, mask: (T, B)."""
        with torch.no_grad():
            self.errors = self.task.errors(outputs, inputs, targets, mask)
        weights = torch.where(last_counted(mask), self.end_weight, 1.0)[mask]
        if targets.is_floating_point():
            losses = F.mse_loss(outputs[..., 0][mask], targets[mask], reduction="none")
        else:
            losses = F.cross_entropy(outputs[mask], targets[mask], reduction="none")
        return weights @ losses
