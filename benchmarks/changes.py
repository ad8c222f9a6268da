"""What the ablations try that the program does not have: changes made to a trainer before its first step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AVERAGING = 0.998
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of Muon (Jordan et al. 2024): five steps from a matrix to a near rotation
Change = Callable[[Any], Callable[[], None]]  # from a trainer to what is done to its model at the end


def set_betas(first: float, second: float) -> Change:
    """Adam with other decay rates of its two moments."""

    def change(trainer: Any) -> Callable[[], None]:
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["betas"] = (first, second)
        return lambda: None

    return change


def average_weights(trainer: Any) -> Callable[[], None]:
    """Measure the running mean of the weights (Polyak & Juditsky 1992), which the training loss never sees."""
    parameters = list(trainer.model.parameters())
    means = [parameter.detach().clone() for parameter in parameters]
    step = trainer.optimizer.step

    def step_and_average() -> None:
        step()
        for mean, parameter in zip(means, parameters, strict=True):
            mean.lerp_(parameter.detach(), 1 - AVERAGING)

    def finish() -> None:
        with torch.no_grad():
            for mean, parameter in zip(means, parameters, strict=True):
                parameter.copy_(mean)

    trainer.optimizer.step = step_and_average
    return finish


def normalise_layers(trainer: Any) -> Callable[[], None]:
    """Layer normalisation (Ba et al. 2016) of each layer's outputs."""
    scan, size = trainer.model.core.scan, trainer.model.core.hidden_size

    def normalised(x: Tensor, state: Any, weights: Any) -> Any:
        outputs, after = scan(x, state, weights)
        return F.layer_norm(outputs, (size,)), after

    trainer.model.core.scan = normalised
    return lambda: None


def add_inputs(trainer: Any) -> Callable[[], None]:
    """Residual connections (He et al. 2016) around the layers whose input is as large as their output."""
    scan = trainer.model.core.scan

    def residual(x: Tensor, state: Any, weights: Any) -> Any:
        outputs, after = scan(x, state, weights)
        return (outputs + x if outputs.shape == x.shape else outputs), after

    trainer.model.core.scan = residual
    return lambda: None


def drop_embeddings(share: float) -> Change:
    """Dropout of embeddings, one mask a step and lane."""

    def change(trainer: Any) -> Callable[[], None]:
        embedding: nn.Embedding = trainer.model.embedding

        def drop(_module: nn.Module, _inputs: Any, x: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                return x
            return x * F.dropout(torch.ones(x.shape[1:]), share)

        embedding.register_forward_hook(drop)
        return lambda: None

    return change


class Muon(torch.optim.Optimizer):
    """Muon for the recurrent layers' matrices, gate by gate, beside AdamW for all else.

    The momentum of a gate's matrix is made nearly orthogonal before it is subtracted (Jordan et al. 2024), scaled to
    the size that an update of Adam has (Liu et al. 2025). `lr` of the groups is AdamW's; Muon's follows in proportion.
    """

    def __init__(self, adamw: torch.optim.Optimizer, matrices: list[nn.Parameter], gates: int, ratio: float) -> None:
        self.adamw, self.matrices, self.gates, self.ratio = adamw, matrices, gates, ratio
        chosen = {id(matrix) for matrix in matrices}
        for group in adamw.param_groups:
            group["params"] = [each for each in group["params"] if id(each) not in chosen]
        super().__init__([{"params": matrices}], {"lr": 0.0})
        self.param_groups += adamw.param_groups
        self.moments = {id(matrix): torch.zeros_like(matrix) for matrix in matrices}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # noqa: ARG002 - as torch's
        self.adamw.step()
        rate = self.ratio * self.param_groups[0]["lr"]
        for matrix in self.matrices:
            assert matrix.grad is not None
            moment = self.moments[id(matrix)]
            moment.mul_(0.95).add_(matrix.grad)
            gates = (matrix.grad + 0.95 * moment).view(self.gates, -1, matrix.shape[1])  # Nesterov's
            update = orthogonalise(gates).view_as(matrix)
            matrix.mul_(1 - 0.1 * rate).add_(update, alpha=-rate * max(gates.shape[1:]) ** 0.5 * 0.2)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Matrices (G, N, M) with their singular values near 1, by Newton and Schulz's iteration."""
    x = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrices.shape[1] <= matrices.shape[2] else x.mT


def use_muon(rate: float) -> Change:
    """Muon, whose highest rate is given, with the schedule of the recipe."""

    def change(trainer: Any) -> Callable[[], None]:
        core = trainer.model.core
        matrices = [part for name, part in core.named_parameters() if name.startswith("weight_")]
        ratio = rate / trainer.settings.learning_rate
        trainer.optimizer = Muon(trainer.optimizer, matrices, len(core.cell.gates), ratio)
        return lambda: None

    return change


CHANGES: Mapping[str, Change] = {
    "beta2_0.99": set_betas(0.9, 0.99),
    "averaged": average_weights,
    "normalised": normalise_layers,
    "residual": add_inputs,
    "embedding_dropout": drop_embeddings(0.2),
    "muon_0.005": use_muon(0.005),
    "muon_0.01": use_muon(0.01),
    "muon_0.02": use_muon(0.02),
}
