"""What the ablations try that the program does not have: changes made to a trainer before its first step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlstm.training import optimizers

AVERAGING = 0.998
Change = Callable[[Any], Callable[[], None]]  # from a trainer to what is done to its model at the end


def set_second_beta(trainer: Any) -> Callable[[], None]:
    """AdamW, of what Muon does not move, with another decay rate of its second moment."""
    for group in trainer.optimizers.each[-1].param_groups:
        group["betas"] = (0.9, 0.99)
    return lambda: None


def average_weights(trainer: Any) -> Callable[[], None]:
    """Measure the running mean of the weights (Polyak & Juditsky 1992), which the training loss never sees.

    It begins with nothing, and is divided by what it has been given, as Adam's moments are.
    """
    parameters = list(trainer.model.parameters())
    means = [torch.zeros_like(parameter) for parameter in parameters]
    last = trainer.optimizers.each[-1]
    step = last.step

    def step_and_average() -> None:
        step()
        for mean, parameter in zip(means, parameters, strict=True):
            mean.lerp_(parameter.detach(), 1 - AVERAGING)

    def finish() -> None:
        with torch.no_grad():
            for mean, parameter in zip(means, parameters, strict=True):
                parameter.copy_(mean / (1 - AVERAGING**trainer.progress.step))

    last.step = step_and_average
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


def drop_embeddings(trainer: Any) -> Callable[[], None]:
    """Dropout of a fifth of the embeddings, one mask a step and lane."""

    def drop(_module: nn.Module, _inputs: Any, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return x
        return x * F.dropout(torch.ones(x.shape[1:]), 0.2)

    trainer.model.embedding.register_forward_hook(drop)
    return lambda: None


def replace_inputs(trainer: Any) -> Callable[[], None]:
    """Noise in the inputs: a tenth of the characters are others of the batch (unigram noising, Xie et al. 2017)."""

    def replace(_module: nn.Module, inputs: Any) -> Any:
        if not torch.is_grad_enabled():
            return inputs
        (ids,) = inputs
        others = ids.flatten()[torch.randint(ids.numel(), ids.shape)]
        return (torch.where(torch.rand(ids.shape) < 0.1, others, ids),)

    trainer.model.embedding.register_forward_pre_hook(replace)
    return lambda: None


class SOAP(torch.optim.Optimizer):
    """SOAP (Vyas et al. 2024, algorithm 3) for the recurrent layers' matrices, gate by gate: Adam in the eigenbasis of
    the gradients' covariances on both sides. These are updated by every gradient, the basis every ten steps.
    """

    def __init__(self, matrices: list[nn.Parameter], gates: int) -> None:
        super().__init__(matrices, {"lr": 0.0})
        self.gates = gates

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 - as torch's
        (group,) = self.param_groups
        for matrix in group["params"]:
            gradient, state = matrix.grad.view(self.gates, -1, matrix.shape[1]), self.state[matrix]
            sides = {"left": gradient @ gradient.mT, "right": gradient.mT @ gradient}
            if not state:
                state |= {"step": 0, "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
                state |= {f"covariance_{side}": torch.zeros_like(product) for side, product in sides.items()}
                state |= {side: torch.linalg.eigh(product).eigenvectors.flip(-1) for side, product in sides.items()}
            state["step"] += 1
            for side, product in sides.items():
                state[f"covariance_{side}"].lerp_(product, 0.05)
            if state["step"] % 10 == 0:
                mean = state["left"] @ state["mean"] @ state["right"].mT
                for side, axis in (("left", 1), ("right", 2)):
                    covariance, basis = state[f"covariance_{side}"], state[side]
                    order = (basis * (covariance @ basis)).sum(dim=1).argsort(dim=1, descending=True)
                    state["square"] = state["square"].take_along_dim(order.unsqueeze(3 - axis), dim=axis)
                    state[side] = torch.linalg.qr(covariance @ basis.take_along_dim(order.unsqueeze(1), dim=2)).Q
                state["mean"] = state["left"].mT @ mean @ state["right"]
            turned = state["left"].mT @ gradient @ state["right"]
            state["mean"].lerp_(turned, 0.05)
            state["square"].lerp_(turned.square(), 0.05)
            correction = 1 - 0.95 ** state["step"]
            update = state["mean"] / correction / ((state["square"] / correction).sqrt() + 1e-8)
            update = (state["left"] @ update @ state["right"].mT).view_as(matrix)
            matrix.mul_(1 - 0.1 * group["lr"]).sub_(update, alpha=group["lr"])


def use_soap(trainer: Any) -> Callable[[], None]:
    """SOAP in the place of Muon."""
    muon, *others = trainer.optimizers.each
    soap = SOAP(muon.param_groups[0]["params"], muon.gates)
    trainer.optimizers = optimizers.Optimizers([soap, *others])
    return lambda: None


def rate_of_others(factor: float) -> Change:
    """Another learning rate for what Muon does not move: embeddings, output layer, biases."""

    def change(trainer: Any) -> Callable[[], None]:
        adamw = trainer.optimizers.each[-1]
        step = adamw.step

        def step_at_other_rate() -> None:
            for group in adamw.param_groups:
                group["lr"] *= factor
            step()

        adamw.step = step_at_other_rate
        return lambda: None

    return change


def fall_late(trainer: Any) -> Callable[[], None]:
    """A rate that is constant after the warm-up, and falls to 0 over the last third, in a straight line."""
    settings, step = trainer.settings, trainer.optimizers.step

    def step_at_own_rate(_rate: float) -> None:
        done, total = trainer.progress.step, trainer.progress.total_steps
        step(trainer.highest_rate * min(1.0, (done + 1) / settings.warmup_steps, 3 * (total - done) / total))

    trainer.optimizers.step = step_at_own_rate
    return lambda: None


def iterate_five_times(_trainer: Any) -> Callable[[], None]:
    """Muon with two more of Newton and Schulz's iterations."""
    optimizers.ITERATIONS = 5
    return lambda: None


def join_gates(trainer: Any) -> Callable[[], None]:
    """Muon for the matrix of all gates together."""
    trainer.optimizers.each[0].gates = 1
    return lambda: None


CHANGES: Mapping[str, Change] = {
    "beta2_0.99": set_second_beta,
    "averaged": average_weights,
    "normalised": normalise_layers,
    "residual": add_inputs,
    "embedding_dropout": drop_embeddings,
    "input_noise": replace_inputs,
    "soap": use_soap,
    "muon_whole": join_gates,
    "others_slow": rate_of_others(1 / 4),
    "others_fast": rate_of_others(2),
    "fall_late": fall_late,
    "muon_5": iterate_five_times,
}
