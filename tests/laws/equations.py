"""Laws of the equations: against scalar ones, as they are taught, from gates to state, in NumPy and in torch."""

import math
from collections.abc import Callable, Mapping
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


Named = Mapping[str, Any]


def lstm_from_gates(gates: Named, old: Named) -> dict[str, Any]:
    c = gates["f"] * old["c"] + gates["i"] * gates["g"]
    return {"h": gates["o"] * np.tanh(c), "c": c}


def gru_from_gates(gates: Named, old: Named) -> dict[str, Any]:
    return {"h": (1 - gates["z"]) * gates["n"] + gates["z"] * old["h"]}


def rnn_from_gates(gates: Named, _old: Named) -> dict[str, Any]:
    return {"h": gates["n"]}


FROM_GATES: Mapping[tuple[str, ...], Callable[[Named, Named], dict[str, Any]]] = {
    ("i", "f", "g", "o"): lstm_from_gates,
    ("r", "z", "n"): gru_from_gates,
    ("n",): rnn_from_gates,
}


@law(ROUNDING, lambda subject: is_by_hand(subject) and subject.cell.gates in FROM_GATES)
def the_gates_are_in_range_and_rebuild_the_output(subject: Subject) -> float:
    cell = subject.cell
    from_input, from_hidden, state, weight_ch = random_step(subject)
    after, values = cell.step(from_input, from_hidden, state, weight_ch, np)
    gates, old = dict(zip(cell.gates, values, strict=True)), dict(zip(cell.state, state, strict=True))
    low = {"g": -1.0, "n": -1.0}  # candidates lie in (-1, 1), gates in (0, 1)
    if not all((low.get(name, 0.0) < gate).all() and (gate < 1.0).all() for name, gate in gates.items()):
        return math.inf
    rebuilt = FROM_GATES[cell.gates](gates, old)
    return furthest(after, [rebuilt[part] for part in cell.state])


TAUGHT = ("lstm", "peephole", "peephole-full", "gru", "rnn")


def teaching_step(name: str, order: str, x: Any, state: Any, w: Mapping[str, Any]) -> tuple[Any, ...]:
    """One step as it is taught: a matrix and a bias for each gate, applied to [h, x] or to [x, h]."""
    h, *rest = state
    gates = SCALAR[name][0]
    rows = {gate: slice(k * H, (k + 1) * H) for k, gate in enumerate(gates)}
    seen = np.concatenate([h, x] if order == "hx" else [x, h], axis=1)
    affine = {}
    for gate in gates:
        pair = (w["weight_hh"][rows[gate]], w["weight_ih"][rows[gate]])
        matrix = np.concatenate(pair if order == "hx" else pair[::-1], axis=1)
        bias = w["bias_ih"][rows[gate]] + w["bias_hh"][rows[gate]]
        affine[gate] = lambda v, matrix=matrix, bias=bias: v @ matrix.T + bias
    sig = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    if name == "rnn":
        return (np.tanh(affine["n"](seen)),)
    if name == "gru":  # the candidate is no affine map of the concatenation: the reset gate is inside
        r, z = sig(affine["r"](seen)), sig(affine["z"](seen))
        of_x = x @ w["weight_ih"][rows["n"]].T + w["bias_ih"][rows["n"]]
        of_h = h @ w["weight_hh"][rows["n"]].T + w["bias_hh"][rows["n"]]
        return (z * h + (1 - z) * np.tanh(of_x + r * of_h),)
    (c,) = rest
    see_i = see_f = see_o = np.zeros_like(c)
    if name == "peephole-full":
        see_i, see_f, see_o = (c @ block.T for block in np.split(w["weight_ch"], 3))
    if name == "peephole":
        see_i, see_f = c @ np.diag(w["weight_ch"][0]), c @ np.diag(w["weight_ch"][1])
    forget = sig(affine["f"](seen) + see_f)
    write = sig(affine["i"](seen) + see_i)
    new_c = c * forget + write * np.tanh(affine["g"](seen))
    if name == "peephole":
        see_o = new_c @ np.diag(w["weight_ch"][2])
    return sig(affine["o"](seen) + see_o) * np.tanh(new_c), new_c


@law(ROUNDING, lambda subject: subject.name in TAUGHT)
def the_packed_form_is_the_taught_one(subject: Subject) -> float:
    core, (x, state) = random_core(subject, layers=1), random_text(subject, layers=1)
    w = {name: weight.detach().numpy() for name, weight in core.layer_weights(0).items()}
    outputs, after = core(x, state)
    worst = []
    for order in ("hx", "xh"):
        now, taught = tuple(part[0].numpy() for part in state), []
        for t in range(T):
            now = teaching_step(subject.name, order, x[t].numpy(), now, w)
            taught.append(now[0])
        worst.append(furthest([outputs, *after], [np.stack(taught), *(part[None] for part in now)]))
    return max(worst)


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
