"""Dynamic evaluation: the model goes on learning from the text that it is measured on, after each part of it.

Krause, Kahembwe, Murray & Renals 2018, "Dynamic evaluation of neural sequence models", their rule with the root of the
mean squared gradients and a decay towards the trained weights (equations 4 to 6). Every character is predicted before
the model has learned anything from it, so the figure is that of one pass over the text, by a model that adapts to it.

Letters: `T` characters of a segment, `B` lanes, `θ` weights as they are, `θ₀` as they were trained, `g` gradient of a
segment.

    RMS = √(mean of g² over the training text)
    θ ← θ − rate · g / (RMS + ε) + decay · RMS / mean(RMS) · (θ₀ − θ)
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.cells import State
from charlstm.errors import TextError
from charlstm.evaluation.tally import Tally, tally_lanes
from charlstm.networks import Model, Objective
from charlstm.text import Ids
from charlstm.text.stored_ids import refuse_changed

SEGMENT_CHARS = 20  # T, after each of which the model learns
STATISTICS_LANES, STATISTICS_STEPS = 32, 100  # of the training text whose gradients are squared
TUNING_CHARS = 10_000  # of the training text, read once for each pair of rates that is tried
RATES = (2e-5, 5e-5, 1e-4, 2e-4)  # tried with the first of the decays; then the other decays with the best of them
DECAYS = (1e-3, 3e-4, 3e-3, 1e-2)
EPSILON = 0.1  # ε as a fraction of mean(RMS), so that a symbol which the statistics have not met takes bounded steps


@dataclass(frozen=True)
class DynamicRule:
    """How far the weights move after a segment: `rate` along the gradient, `decay` of the way back."""

    rate: float
    decay: float
    tuned_chars: int = 0  # of the training text, on which the two were chosen


@dataclass(frozen=True)
class Learner:
    """A model as it was trained, and the sizes of its gradients, by which each weight's steps are scaled."""

    model: Model
    objective: Objective
    start_id: int
    sizes: Sequence[Tensor]  # RMS, one a parameter

    def read(self, ids: Ids, rule: DynamicRule) -> Iterator[Tally]:
        """Tally segment after segment of ids (N,), after the start symbol, learning by the rule after each.

        The weights that learn are a copy.
        """
        trained = [parameter.detach() for parameter in self.model.parameters()]
        model = copy.deepcopy(self.model)
        mean = max(sum(float(size.sum()) for size in self.sizes) / sum(map(torch.numel, self.sizes)), 1e-30)
        steps = [rule.rate / (size + EPSILON * mean) for size in self.sizes]
        ways_back = [(rule.decay / mean * size).clamp(max=1.0) for size in self.sizes]
        state: State | None = None
        for first in range(0, len(ids), SEGMENT_CHARS):
            segment = _taken(ids, slice(max(first - 1, 0), first + SEGMENT_CHARS))
            segment = np.append([self.start_id], segment) if first == 0 else segment
            gradients, tally, state = _gradients(model, self.objective, segment[:, None], state)
            yield tally
            with torch.no_grad():
                for parts in zip(model.parameters(), trained, ways_back, gradients, steps, strict=True):
                    weight, before, way_back, gradient, step = parts
                    weight.lerp_(before, way_back).addcmul_(gradient, step, value=-1)


def evaluate_dynamic(
    model: Model,
    objective: Objective,
    texts: Sequence[Ids],
    training_ids: Ids,
    *,
    start_id: int,
    tell: Callable[[float], None] = lambda _done: None,
) -> tuple[list[Tally], DynamicRule]:
    """Tally the model over each of the texts (N,), beginning each with the weights as they were trained.

    training_ids: what the model was trained on; gives the sizes of gradients, and the rule: the one of the lowest loss
    on the beginning of it. tell: called with the fraction that is done. Raises TextError for an empty text, and for
    a training text of fewer than 2 characters.
    """
    if not all(map(len, texts)):
        raise TextError("a text to evaluate dynamically needs 1 or more characters, this one has 0")
    if len(training_ids) < 2:
        raise TextError("the training text, by which the rates are tuned, needs 2 or more characters")
    sample = training_ids[:TUNING_CHARS]
    todo, done = (len(RATES) + len(DECAYS) - 1) * len(sample) + sum(map(len, texts)), 0
    learner = Learner(model, objective, start_id, _gradient_sizes(model, objective, training_ids))

    def read(ids: Ids, rule: DynamicRule) -> Tally:
        nonlocal done
        total = Tally()
        for tally in learner.read(ids, rule):
            total += tally
            done += tally.chars
            tell(done / todo)
        return total

    @cache
    def loss(rate: float, decay: float) -> float:
        return read(sample, DynamicRule(rate, decay)).loss

    rate = min(RATES, key=lambda rate: loss(rate, DECAYS[0]))
    decay = min(DECAYS, key=lambda decay: loss(rate, decay))
    rule = DynamicRule(rate, decay, len(sample))
    return [read(ids, rule) for ids in texts], rule


def _gradient_sizes(model: Model, objective: Objective, ids: Ids) -> list[Tensor]:
    """The root of the mean squared gradient of each weight, over segments of lanes that begin all over the text."""
    squares = [torch.zeros_like(parameter) for parameter in model.parameters()]
    lanes = max(1, min(STATISTICS_LANES, (len(ids) - 1) // SEGMENT_CHARS))
    lane_chars = (len(ids) - 1) // lanes
    starts = np.arange(lanes) * lane_chars
    firsts = range(0, min(lane_chars, STATISTICS_STEPS * SEGMENT_CHARS), SEGMENT_CHARS)
    state: State | None = None
    for first in firsts:
        offsets = np.arange(first, min(first + SEGMENT_CHARS, lane_chars) + 1)[:, None]
        gradients, _, state = _gradients(model, objective, _taken(ids, starts + offsets), state)
        for square, gradient in zip(squares, gradients, strict=True):
            square.addcmul_(gradient, gradient)
    return [(square / len(firsts)).sqrt_() for square in squares]


def _taken(ids: Ids, places: slice | NDArray[np.integer]) -> NDArray[np.int64]:
    """The ids at some places, in memory. Raises InputOutputError if their file is changed meanwhile."""
    refuse_changed(ids)
    taken = np.array(ids[places], np.int64)
    refuse_changed(ids)
    return taken


def _gradients(
    model: Model, objective: Objective, segment: NDArray[np.int64], state: State | None
) -> tuple[tuple[Tensor, ...], Tally, State]:
    """The gradients of the mean loss of a segment (T + 1, B), its tally before they are followed, and the state."""
    ids = torch.from_numpy(segment).to(model.output.weight.device)
    inputs, following = ids[:-1], ids[1:]
    mask = torch.ones_like(inputs, dtype=torch.bool)
    logits, after = model(inputs, state)
    loss = objective.loss(logits, inputs, following, mask) / mask.sum()
    tally = tally_lanes(logits.detach(), objective.counted_targets(inputs, following, mask)).total()
    return torch.autograd.grad(loss, list(model.parameters())), tally, tuple(part.detach() for part in after)
