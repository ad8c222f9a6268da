"""Laws of the equations: against scalar ones, in NumPy and in torch."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..scalar_equations import SCALAR, scalar_step
from .subjects import (
    ROUNDING,
    SUBJECTS,
    B,
    E,
    H,
    L,
    Subject,
    T,
    furthest,
    is_by_hand,
    law,
    random_core,
    random_step,
    random_text,
    randoms,
)


@lru_cache
def scalar_run(name: str) -> tuple[Any, ...]:
    """The outputs (T, B, H) and the last state's arrays (L, B, H) of the random core on the random text."""
    subject = SUBJECTS[name]
    core, (x, state) = random_core(subject), random_text(subject)
    layers = [{key: weight.tolist() for key, weight in core.layer_weights(k).items()} for k in range(L)]
    outputs, last = np.zeros((T, B, H)), np.zeros((len(state), L, B, H))
    for lane in range(B):
        now = [[part[k, lane].tolist() for part in state] for k in range(L)]
        for t in range(T):
            reads = x[t, lane].tolist()
            for k in range(L):
                after = scalar_step(name, reads, now[k], layers[k])
                now[k] = [after[f"{part}'"] for part in subject.cell.state]
                reads = after["h'"]
            outputs[t, lane] = reads
        last[:, :, lane] = np.array(now).transpose(1, 0, 2)
    return outputs, *last


def has_scalar(subject: Subject) -> bool:
    return subject.name in SCALAR


@law(ROUNDING, has_scalar)
def a_run_is_the_scalar_equations(subject: Subject) -> float:
    outputs, after = random_core(subject)(*random_text(subject))
    return furthest([outputs, *after], scalar_run(subject.name))


@law(ROUNDING, lambda subject: is_by_hand(subject) and has_scalar(subject))
def the_gates_are_the_scalar_ones(subject: Subject) -> float:
    draw = randoms(4)
    x = draw(B, E).numpy()
    w = {key: draw(*shape, spread=0.5).numpy() for key, shape in subject.cell.weight_shapes(E, H).items()}
    state = tuple(draw(B, H).numpy() for _ in subject.cell.state)
    from_input, from_hidden = x @ w["weight_ih"].T + w["bias_ih"], state[0] @ w["weight_hh"].T + w["bias_hh"]
    after, gates = subject.cell.step(from_input, from_hidden, state, w.get("weight_ch"), np)
    lanes = [scalar_step(subject.name, x[b], [part[b] for part in state], w) for b in range(B)]
    keys = [*subject.cell.gates, *(f"{part}'" for part in subject.cell.state)]
    return furthest([*gates, *after], [np.array([lane[key] for lane in lanes]) for key in keys])


@law(ROUNDING, lambda subject: "c" in subject.cell.state and subject.cell.weight_ch_shape is not None)
def without_peepholes_it_is_the_lstm(subject: Subject) -> float:
    core, plain = random_core(subject), random_core(SUBJECTS["lstm"])
    with torch.no_grad():
        for name, weight in core.named_parameters():
            if name.startswith("weight_ch"):
                weight.zero_()
            else:
                weight.copy_(plain.get_parameter(name))
    x, state = random_text(subject)
    (outputs, after), (expected, expected_after) = core(x, state), plain(x, state)
    return furthest([outputs, *after], [expected, *expected_after])


@law(1e-15, is_by_hand)
def numpy_steps_as_torch_does(subject: Subject) -> float:
    from_input, from_hidden, state, weight_ch = random_step(subject)
    in_numpy, numpy_gates = subject.cell.step(from_input, from_hidden, state, weight_ch, np)
    tensors = [torch.from_numpy(part) for part in (from_input, from_hidden, *state)]
    weight = None if weight_ch is None else torch.from_numpy(weight_ch)
    in_torch, torch_gates = subject.cell.step(tensors[0], tensors[1], tuple(tensors[2:]), weight, torch)
    assert all(isinstance(array, np.ndarray) for array in (*in_numpy, *numpy_gates))
    assert all(isinstance(tensor, Tensor) for tensor in (*in_torch, *torch_gates))
    return furthest([*in_torch, *torch_gates], [*in_numpy, *numpy_gates])


@law(0.0, is_by_hand)
def a_step_leaves_its_arguments_alone(subject: Subject) -> float:
    from_input, from_hidden, state, weight_ch = random_step(subject)
    subject.cell.step(from_input, from_hidden, state, weight_ch, np)
    kept = [0.0 if part is None else part for part in (from_input, from_hidden, *state, weight_ch)]
    fresh = random_step(subject)
    original = [0.0 if part is None else part for part in (fresh[0], fresh[1], *fresh[2], fresh[3])]
    return furthest(kept, original)
