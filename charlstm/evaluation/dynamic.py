"""Dynamic evaluation: the model goes on learning from the text that it is measured on, after each part of it.

Krause, Kahembwe, Murray & Renals 2018, "Dynamic evaluation of neural sequence models", their rule with the root of the
mean squared gradients and a decay towards the trained weights (equations 4 to 6). Every character is predicted before
the model has learned anything from it, so the figure is a fair one, of another kind: that of a model that adapts.

Letters: `T` characters of a segment, `θ` weights as they are, `θ₀` as they were trained, `g` gradient of a segment.

    RMS = √(mean of g² over the training text)
    θ ← θ − rate · g / (RMS + ε) + decay · RMS / mean(RMS) · (θ₀ − θ)
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charlstm.cells import State
from charlstm.evaluation.tally import Tally, tally_lanes
from charlstm.networks import Model, Objective
from charlstm.text import Ids

SEGMENT_CHARS = 20  # T, after each of which the model learns
STATISTICS_LANES, STATISTICS_STEPS = 32, 100  # of the training text whose gradients are squared
TUNING_CHARS = 10_000  # of the training text, read once for each pair of rates
RATES = (1e-5, 2e-5, 5e-5, 1e-4)
DECAYS = (1e-3, 3e-3, 1e-2)
EPSILON = 1e-8


@dataclass(frozen=True)
class DynamicRule:
    """How far the weights move after a segment: `rate` along the gradient, `decay` of the way back."""

    rate: float
    decay: float


def dynamic_evaluation(
    model: Model, objective: Objective, ids: Ids, training_ids: Ids, rule: DynamicRule | None = None
) -> tuple[Tally, DynamicRule]:
    """Tally the model over ids (N,) as one stream, learning from each segment once it has been predicted.

    training_ids: gives the sizes of gradients and, with `rule` None, the rule: that of the lowest loss on a part of it.
    The model itself stays as it is.
    """
    sizes = _gradient_sizes(model, objective, training_ids)
    if rule is None:
        sample = training_ids[: TUNING_CHARS + 1]
        rules = [DynamicRule(rate, decay) for rate in RATES for decay in DECAYS]
        rule = min(rules, key=lambda rule: _adapt(model, objective, sample, sizes, rule).loss)
    return _adapt(model, objective, ids, sizes, rule), rule


def _adapt(model: Model, objective: Objective, ids: Ids, sizes: list[Tensor], rule: DynamicRule) -> Tally:
    """The tally of a copy of the model that learns by the rule."""
    trained = [parameter.detach() for parameter in model.parameters()]
    model = copy.deepcopy(model)
    weights = list(model.parameters())
    mean = sum(float(size.sum()) for size in sizes) / sum(size.numel() for size in sizes)
    steps = [rule.rate / (size + EPSILON) for size in sizes]
    ways_back = [(rule.decay / mean * size).clamp(max=1.0) for size in sizes]
    tally = Tally()
    state: State | None = None
    for first in range(0, len(ids) - 1, SEGMENT_CHARS):
        segment = np.asarray(ids[first : first + SEGMENT_CHARS + 1], np.int64)[:, None]
        gradients, of_segment, state = _learn(model, objective, torch.from_numpy(segment), state)
        tally = tally + of_segment
        with torch.no_grad():
            for weight, gradient, step, way_back, before in zip(
                weights, gradients, steps, ways_back, trained, strict=True
            ):
                weight.add_(way_back * (before - weight) - step * gradient)
    return tally


def _gradient_sizes(model: Model, objective: Objective, ids: Ids) -> list[Tensor]:
    """The root of the mean squared gradient of each weight, over segments of lanes spread over the text."""
    squares = [torch.zeros_like(parameter) for parameter in model.parameters()]
    state = None
    count = 0
    for segment in _spread_segments(ids):
        gradients, _, state = _learn(model, objective, segment, state)
        count += 1
        for square, gradient in zip(squares, gradients, strict=True):
            square.addcmul_(gradient, gradient)
    return [(square / count).sqrt_() for square in squares]


def _spread_segments(ids: Ids) -> Iterator[Tensor]:
    """Segments (T + 1, B) of lanes that begin all over the text; fewer of both for a short one."""
    lanes = max(1, min(STATISTICS_LANES, (len(ids) - 1) // SEGMENT_CHARS))
    lane_chars = (len(ids) - 1) // lanes
    starts = np.arange(lanes) * lane_chars
    for first in range(0, min(lane_chars, STATISTICS_STEPS * SEGMENT_CHARS), SEGMENT_CHARS):
        offsets = np.arange(first, min(first + SEGMENT_CHARS, lane_chars) + 1)[:, None]
        yield torch.from_numpy(np.asarray(ids[starts + offsets], np.int64))


def _learn(
    model: Model, objective: Objective, segment: Tensor, state: State | None
) -> tuple[tuple[Tensor, ...], Tally, State]:
    """The gradients of the mean loss of a segment (T + 1, B), its tally before they are followed, and the state."""
    inputs, following = segment[:-1], segment[1:]
    mask = torch.ones_like(inputs, dtype=torch.bool)
    logits, after = model(inputs, state)
    loss = objective.loss(logits, inputs, following, mask) / mask.sum()
    tally = tally_lanes(logits.detach(), objective.counted_targets(inputs, following, mask)).total()
    return torch.autograd.grad(loss, list(model.parameters())), tally, tuple(part.detach() for part in after)
