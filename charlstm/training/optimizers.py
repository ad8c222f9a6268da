"""The rules that move the weights: Adam, AdamW, and Muon for the input and recurrent matrices of recurrent layers.

Letters: `N`, `M` rows and columns of a matrix.
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
STEP_RMS = 0.2  # of a step at a rate of 1, as AdamW's usually are (Liu et al. 2025)


class Muon(torch.optim.Optimizer):
    """Moves each matrix by its momentum, whose singular values are brought near 1 (Jordan et al. 2024).

    Most of a gradient lies along few singular vectors. Adam, which scales each weight by itself, leaves it so; here the
    many others, along which the loss changes little but steadily, are followed as far.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        dtype: torch.dtype,
        map_tensors: MapTensors,
    ) -> None:
        """dtype: of the factors of matrix products. map_tensors: gives what a function makes of each tensor."""
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self.dtype, self.map_tensors = dtype, map_tensors

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move every matrix."""
        (group,) = self.param_groups
        matrices, aims = group["params"], []
        for matrix in matrices:
            if not self.state[matrix]:
                self.state[matrix]["momentum"] = torch.zeros_like(matrix)
            momentum = self.state[matrix]["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
            aims.append(matrix.grad.lerp(momentum, MOMENTUM))  # Nesterov's
        directions = self.map_tensors(lambda aim: orthogonalise(aim, self.dtype), aims)
        for matrix, direction in zip(matrices, directions, strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.sub_(direction, alpha=group["lr"] * STEP_RMS * max(matrix.shape) ** 0.5)


def orthogonalise(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix (N, M) with singular values between 0.68 and 1.2, where they were 0.02 of its norm or more.

    Newton and Schulz's iteration, of odd polynomials of the matrix, which change its singular values alone.
    """
    is_tall = len(matrix) > matrix.shape[1]
    x: Tensor = (matrix.T if is_tall else matrix) / matrix.norm().clamp(min=1e-30)
    x = x.to(dtype)
    a, b, c = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if is_tall else x).to(matrix.dtype)


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
    rate, decay, parameters = settings.learning_rate, settings.weight_decay, list(model.parameters())
    if settings.optimizer == "adam":  # Kingma & Ba 2015
        return Optimizers([torch.optim.Adam(parameters, lr=rate, fused=True)])
    matrices, vectors = ([p for p in parameters if (p.ndim > 1) is wanted] for wanted in (True, False))
    optimizers: list[torch.optim.Optimizer] = []
    if settings.optimizer == "muon":
        names = ("weight_ih", "weight_hh")
        recurrent = [p for name, p in model.core.named_parameters() if any(part in name for part in names)]
        optimizers.append(Muon(recurrent, lr=rate, weight_decay=decay, dtype=dtype, map_tensors=map_tensors))
        matrices = [p for p in matrices if all(p is not other for other in recurrent)]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return Optimizers([*optimizers, torch.optim.AdamW(groups, lr=rate, fused=True)])
