"""The gradients of a batch: its shards forward and backward, and the sums over all of them.

A shard is a function of the weights, its lanes and (seed, step, shard) alone, and gradients are added in an order that
depends on nothing but their number, so it does not matter which thread or process computed them.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from charlstm.cells import State
from charlstm.machine import Machine, Shards
from charlstm.networks import Model, Objective, join_lanes, lanes_of, reset_lanes
from charlstm.settings import TrainingSettings
from charlstm.text import Batch

FP16_SCALES = (4096.0, 64.0, 1.0)  # of the loss, until no gradient is above fp16's 65,504; what is below 6e-8 is lost


class Gradients(NamedTuple):
    """What a batch gave."""

    losses: list[float]  # of each shard of this process; over all shards they add up to the batch's
    sums: list[Tensor]  # over all shards, one for each parameter
    state: State  # after the lanes that this process computes


def compute_gradients(
    model: Model,
    objective: Objective,
    batch: Batch,
    state: State | None,
    *,
    settings: TrainingSettings,
    step: int,
    machine: Machine,
    shards: Shards,
    local: bool,
) -> Gradients:
    """Every parameter's gradient of the mean loss of a batch, nats per character.

    state: before the lanes that this process computes, None for zeros. local: whether to sum over the shards of this
    process alone, as if they were the batch.
    """
    parameters = list(model.parameters())
    count = batch.inputs.shape[1]
    own = batch.of_lanes(shards.own_lanes(count))
    inputs, following, mask = (torch.from_numpy(part).to(machine.device) for part in own[:3])
    counted = max(1, int(batch.mask.sum()))
    state = reset_lanes(state, own.fresh)
    exchanged = torch.bfloat16 if settings.gradient_compression == "bf16" else torch.float32

    def compute_scaled(scale: float) -> Gradients:
        def compute_shard(shard: int, lanes: slice) -> tuple[Tensor, list[Tensor], State]:
            ids = inputs[:, lanes]
            masks = model.core.draw_masks(ids.shape[1], _random_numbers(settings.seed, step, shard, machine.device))
            logits, after = model(ids, lanes_of(state, lanes), masks=masks, dtype=machine.dtype)
            loss = objective.loss(logits, ids, following[:, lanes], mask[:, lanes]) / counted
            gradients = [gradient.to(exchanged) for gradient in torch.autograd.grad(loss * scale, parameters)]
            return loss.detach(), gradients, tuple(part.detach() for part in after)

        results = shards.map(compute_shard, count)
        gradients = [of_shard for _, of_shard, _ in results]
        if local and not gradients:  # of a batch with fewer lanes than there are processes
            sums = [torch.zeros_like(parameter) for parameter in parameters]
        elif local:
            to_own_mean = counted / max(1, int(own.mask.sum()))
            sums = [sum(of_shards) * to_own_mean for of_shards in zip(*gradients, strict=True)]
        else:
            sums = shards.sum(gradients, count, like=parameters, dtype=exchanged)
        states = [after for _, _, after in results] or [model.core.zero_state(0, like=model.output.bias)]
        sums = [total.to(parameter.dtype).div_(scale) for total, parameter in zip(sums, parameters, strict=True)]
        return Gradients([float(loss) for loss, _, _ in results], sums, join_lanes(states))

    *scales, least = FP16_SCALES if machine.dtype == torch.float16 else (1.0,)
    for scale in scales:
        found = compute_scaled(scale)
        if all(bool(total.isfinite().all()) for total in found.sums):
            return found
    return compute_scaled(least)


def _random_numbers(seed: int, step: int, shard: int, device: torch.device) -> torch.Generator:
    """Random numbers that depend on the seed, the step and the shard alone."""
    (state,) = np.random.SeedSequence((seed, step, shard)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state))
