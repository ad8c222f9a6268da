"""The rules that move the weights: Adam, AdamW, and Muon for the input and recurrent matrices of recurrent layers.

Letters: `G` gates of a cell, `N`, `M` rows and columns of a gate's matrix.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from charlstm.networks import Model
from charlstm.settings import TrainingSettings

MapTensors: TypeAlias = Callable[[Callable[[Tensor], Tensor], Sequence[Tensor]], Sequence[Tensor]]

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's: x → 3.4445 x − 4.775 x³ + 2.0315 x⁵ brings x in (0, 1] towards 1
ITERATIONS = 3  # five learn no more and take longer (docs/learning.md)
LEAST_NORM = 1e-15  # whose square float32 still holds; a matrix of less gets a shorter step
MOST_FACTOR = 3e38  # of a step, which torch takes as a float32
STEP_RMS = 0.2  # of a step at a rate of 1, as AdamW's usually are (Liu et al. 2025)


class Muon(torch.optim.Optimizer):
    """Moves the matrix of each gate by its momentum, whose singular values are brought near 1 (Jordan et al. 2024).

    Most of a gradient lies along few singular vectors. Adam, which scales each weight by itself, leaves it so; here the
    many others, along which the loss changes little but steadily, are followed as far.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        *,
        gates: int,
        lr: float,
        weight_decay: float,
        dtype: torch.dtype,
        map_tensors: MapTensors,
    ) -> None:
        """matrices: (G·N, M), the gates' one below the other.

        dtype: of the factors of matrix products. map_tensors: gives what a function makes of each tensor.
        """
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self.gates, self.dtype, self.map_tensors = gates, dtype, map_tensors

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move every matrix."""
        (group,) = self.param_groups
        matrices, aims = group["params"], []
        for matrix in matrices:
            if not self.state[matrix]:
                self.state[matrix]["momentum"] = torch.zeros_like(matrix)
            momentum = self.state[matrix]["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
            aim = matrix.grad.lerp(momentum, MOMENTUM)  # Nesterov's
            aims.append(aim.view(self.gates, -1, aim.shape[1]))
        directions = self.map_tensors(lambda aim: orthogonalise(aim, self.dtype), aims)
        for matrix, direction in zip(matrices, directions, strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            factor = group["lr"] * STEP_RMS * max(direction.shape[1:]) ** 0.5
            matrix.sub_(direction.reshape(matrix.shape), alpha=min(factor, MOST_FACTOR))


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrices (G, N, M) with singular values between 0.68 and 1.2, where they were 0.02 of their norm or more.

    Newton and Schulz's iteration, of odd polynomials of the matrix, which change its singular values alone.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = (matrices.mT if is_tall else matrices) / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=LEAST_NORM)
    x = x.to(dtype)
    a, b, c = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)


class Optimizers:
    """Torch's optimisers, each of which moves some parameters of a model."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.each = list(optimizers)
        self._of = {
            parameter: optimizer
            for optimizer in self.each
            for group in optimizer.param_groups
            for parameter in group["params"]
        }

    def step(self, rate: float) -> None:
        """Move every parameter, at a learning rate."""
        for optimizer in self.each:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def clear(self) -> None:
        """Forget what is kept between steps."""
        for optimizer in self.each:
            optimizer.state.clear()

    def kept_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return what is kept of a parameter between steps, by name, to be read and replaced."""
        kept: dict[str, Tensor] = self._of[parameter].state[parameter]
        return kept

    def kept_shapes(self, parameter: nn.Parameter) -> dict[str, tuple[int, ...]]:
        """The shapes of what is kept of a parameter after a step, by name."""
        shape = tuple(parameter.shape)
        if isinstance(self._of[parameter], Muon):
            return {"momentum": shape}
        return {"step": (), "exp_avg": shape, "exp_avg_sq": shape}


def build_optimizers(
    model: Model, settings: TrainingSettings, *, dtype: torch.dtype, map_tensors: MapTensors
) -> Optimizers:
    """Build the optimisers that the settings ask for; decay acts on matrices only (Loshchilov & Hutter 2019).

    dtype, map_tensors: as for `Muon`.
    """
    decay, parameters = settings.weight_decay, list(model.parameters())
    rate = 0.0  # which each step sets
    if settings.optimizer == "adam":  # Kingma & Ba 2015
        return Optimizers([torch.optim.Adam(parameters, lr=rate, fused=True)])
    matrices, vectors = ([p for p in parameters if (p.ndim > 1) is wanted] for wanted in (True, False))
    optimizers: list[torch.optim.Optimizer] = []
    if settings.optimizer == "muon":
        names = ("weight_ih", "weight_hh")
        recurrent = [p for name, p in model.core.named_parameters() if any(part in name for part in names)]
        gates = len(model.core.cell.gates)
        optimizers.append(
            Muon(recurrent, gates=gates, lr=rate, weight_decay=decay, dtype=dtype, map_tensors=map_tensors)
        )
        matrices = [p for p in matrices if all(p is not other for other in recurrent)]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return Optimizers([*optimizers, torch.optim.AdamW(groups, lr=rate, fused=True)])
