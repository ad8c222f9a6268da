"""The laws of a recurrent cell, each a function that holds a cell, right or wrong, against what must be so.

A law takes a `Subject` (a cell under the name of the equations it claims, with what runs it) and returns the largest
difference it found, to be at most the law's tolerance. The tests hold every cell to every law; the mutation tests hold
wrong cells to them, and each must break one.

Letters: `T` steps, `B` lanes, `E` input, `H` hidden, `L` layers, `V` vocabulary. All sizes differ, and differ from
the number of gates (4, 3, 1), so that a swapped axis cannot pass.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlstm.cells import CELLS, Cell
from charlstm.inference import Engine
from charlstm.networks.cores import BUILTIN_KERNELS, Bidirectional, Core, Scan, builtin_scan, unrolled_scan
from charlstm.settings import ModelSettings

from .scalar_equations import SCALAR, scalar_step

T, B, E, H, L, V = 7, 5, 8, 6, 2, 11
ROUNDING = 1e-12  # of float64 through a few steps and layers


@dataclass(frozen=True)
class Subject:
    """A cell that claims to be `CELLS[name]`, and the programs that run it."""

    name: str
    cell: Cell
    scan: Scan
    by_hand: bool = True  # whether the scan runs the cell's equations, or torch's kernel
    core: type[Core] = Core
    bidirectional: type[Bidirectional] = Bidirectional
    engine: type[Engine] = Engine


SUBJECTS: Mapping[str, Subject] = {
    **{name: Subject(name, cell, unrolled_scan(cell)) for name, cell in CELLS.items()},
    **{f"{name} builtin": Subject(name, CELLS[name], builtin_scan(name), by_hand=False) for name in BUILTIN_KERNELS},
}


@dataclass(frozen=True)
class Law:
    """What must be so, to within a tolerance, of the subjects that it speaks of."""

    difference: Callable[[Subject], float]
    tolerance: float
    concerns: Callable[[Subject], bool]


LAWS: dict[str, Law] = {}


def law(
    tolerance: float, concerns: Callable[[Subject], bool] = lambda _: True
) -> Callable[[Callable[[Subject], float]], Callable[[Subject], float]]:
    def enter(difference: Callable[[Subject], float]) -> Callable[[Subject], float]:
        LAWS[difference.__name__.replace("_", " ")] = Law(difference, tolerance, concerns)
        return difference

    return enter


def furthest(found: Iterable[Any], expected: Iterable[Any]) -> float:
    """The largest difference between two rows of arrays, NaN if there is one."""
    pairs = [(np.asarray(_plain(a)), np.asarray(_plain(b))) for a, b in zip(found, expected, strict=True)]
    assert all(a.shape == b.shape for a, b in pairs), [(a.shape, b.shape) for a, b in pairs]
    return float(np.max([np.abs(a - b).max() for a, b in pairs]))


def _plain(x: Any) -> Any:
    return x.detach().numpy() if isinstance(x, Tensor) else x


# The subject of an experiment: random weights, inputs and states, the same for every subject of a name.


def randoms(seed: int) -> Callable[..., Tensor]:
    """Draws normal float64 arrays of a given shape and spread."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape, spread=1.0: torch.randn(shape, generator=generator, dtype=torch.float64) * spread


def random_core(subject: Subject, *, input_size: int = E, hidden_size: int = H, layers: int = L, seed: int = 1) -> Core:
    """A core in float64 with all its weights, biases and peepholes random."""
    core = subject.core(
        subject.cell, subject.scan, input_size=input_size, hidden_size=hidden_size, num_layers=layers
    ).double()
    draw = randoms(seed)
    with torch.no_grad():
        for weight in core.parameters():
            weight.copy_(draw(*weight.shape, spread=0.5))
    return core


def random_text(subject: Subject, *, layers: int = L) -> tuple[Tensor, tuple[Tensor, ...]]:
    """An input (T, B, E) and a state of (L, B, H) arrays."""
    draw = randoms(2)
    return draw(T, B, E), tuple(draw(layers, B, H) for _ in subject.cell.state)


def random_step(subject: Subject) -> tuple[Any, ...]:
    """NumPy arguments of one step: from_input, from_hidden, state, weight_ch."""
    draw, rows = randoms(3), len(subject.cell.gates) * H
    state = tuple(draw(B, H).numpy() for _ in subject.cell.state)
    shape = subject.cell.weight_ch_shape
    weight_ch = None if shape is None else draw(*shape(H)).numpy()
    return draw(B, rows).numpy(), draw(B, rows).numpy(), state, weight_ch


# Laws of the equations.


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


def is_by_hand(subject: Subject) -> bool:
    return subject.by_hand


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


# Laws of running over time, layers and lanes.


def has_kernel(subject: Subject) -> bool:
    return subject.name in BUILTIN_KERNELS


KERNEL_MODULES: Mapping[str, type[nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@law(ROUNDING, has_kernel)
def torchs_kernel_gives_the_same(subject: Subject) -> float:
    """Outputs, last state, and the gradients of everything, over several layers."""
    core, (x, state) = random_core(subject), random_text(subject)
    kernel = KERNEL_MODULES[subject.name](E, H, L).double()
    kernel.load_state_dict(core.state_dict())
    x.requires_grad_()
    found = [*_with_gradients(lambda: core(x, state), x, core)]
    expected = [*_with_gradients(lambda: kernel(x, state if len(state) > 1 else state[0]), x, kernel)]
    return furthest(found, expected)


def _with_gradients(run: Callable[[], Any], x: Tensor, module: nn.Module) -> list[Tensor]:
    outputs, after = run()
    arrays = [outputs, *(after if isinstance(after, tuple) else (after,))]
    draw = randoms(5)
    loss = torch.stack([(array * draw(*array.shape)).sum() for array in arrays]).sum()
    weights = [weight for _, weight in sorted(module.named_parameters())]
    return [*arrays, *torch.autograd.grad(loss, [x, *weights])]


@law(ROUNDING, has_kernel)
def torchs_kernel_gives_the_same_in_both_directions(subject: Subject) -> float:
    """Torch's layers each read both directions of the one below: a stack of one-layer `Bidirectional`s.

    Outputs, and the gradient of the input, which flows back through every layer and direction.
    """
    kernel = KERNEL_MODULES[subject.name](E, H, L, bidirectional=True).double()
    x, _ = random_text(subject)
    y = x.requires_grad_()
    for layer in range(L):
        cores = [random_core(subject, input_size=y.shape[2], layers=1, seed=10 * layer + way) for way in range(2)]
        for core, suffix in zip(cores, ("", "_reverse"), strict=True):
            for name, weight in core.layer_weights(0).items():
                kernel.get_parameter(f"{name}_l{layer}{suffix}").data = weight.data
        y = subject.bidirectional(*cores)(y)
    expected, _ = kernel(x)
    draw = randoms(5)(*y.shape)
    gradients = [torch.autograd.grad((one * draw).sum(), x)[0] for one in (y, expected)]
    return furthest([y, gradients[0]], [expected, gradients[1]])


@law(ROUNDING)
def the_whole_is_its_chunks(subject: Subject) -> float:
    core, (x, state) = random_core(subject), random_text(subject)
    whole, after = core(x, state)
    parts = []
    for chunk in x.split([3, 1, 3]):
        output, state = core(chunk, state)
        parts.append(output)
    return furthest([torch.cat(parts), *state], [whole, *after])


@law(0.0)
def no_state_is_zeros(subject: Subject) -> float:
    core, (x, state) = random_core(subject), random_text(subject)
    (outputs, after), (expected, expected_after) = core(x), core(x, tuple(map(torch.zeros_like, state)))
    return furthest([outputs, *after], [expected, *expected_after])


@law(0.0)
def a_mask_multiplies_what_the_next_layer_reads(subject: Subject) -> float:
    """One mask a boundary of layers, every step of it and nothing else."""
    layers = 3
    core, (x, state) = random_core(subject, layers=layers), random_text(subject, layers=layers)
    masks = core.draw_masks(B, 0.5, torch.Generator().manual_seed(1))
    outputs, after = core(x, state, masks=masks)
    last = []
    for layer in range(layers):
        x, parts = subject.scan(x, tuple(part[layer] for part in state), core.layer_weights(layer))
        last.append(parts)
        if layer < layers - 1:
            x = torch.stack([step * masks[layer] for step in x])
    return furthest([outputs, *after], [x, *map(torch.stack, zip(*last, strict=True))])


@law(0.0)
def each_direction_has_its_own_masks(subject: Subject) -> float:
    ahead, back = (random_core(subject, seed=seed) for seed in (1, 2))
    x, _ = random_text(subject)
    both = subject.bidirectional(ahead, back)
    masks = both.draw_masks(B, 0.5, torch.Generator().manual_seed(1))
    expected = [ahead(x, masks=masks[: L - 1])[0], back(x.flip(0), masks=masks[L - 1 :])[0].flip(0)]
    return furthest([both(x, masks=masks)], [torch.cat(expected, dim=-1)])


@law(ROUNDING)
def lanes_do_not_touch_each_other(subject: Subject) -> float:
    core, (x, state) = random_core(subject), random_text(subject)
    together, after = core(x, state)
    worst = []
    for lane in range(B):
        lanes = slice(lane, lane + 1)
        alone, after_alone = core(x[:, lanes], tuple(part[:, lanes] for part in state))
        worst.append(furthest([alone, *after_alone], [together[:, lanes], *(part[:, lanes] for part in after)]))
    return max(worst)


@law(0.0)
def the_future_does_not_move_the_past(subject: Subject) -> float:
    """Past and future as the core reads: of text read backwards, what stands before does not move what stands after."""
    core, (x, state) = random_core(subject), random_text(subject)
    before, _ = core(x, state)
    worst = []
    for t in range(1, T):
        changed = x.clone()
        changed[t:] = randoms(6)(T - t, B, E)
        after, _ = core(changed, state)
        if torch.equal(after[t], before[t]):
            return math.inf  # the present must move the present
        worst.append(furthest([after[:t]], [before[:t]]))
    return max(worst)


@law(1e-7)
def gradients_are_the_numeric_ones(subject: Subject) -> float:
    """The tightest of three tolerances at which torch's `gradcheck` passes every entry of the Jacobian."""
    steps, lanes, size, hidden = 3, 2, 4, 5
    core, draw = random_core(subject, input_size=size, hidden_size=hidden, layers=1), randoms(7)
    names, weights = zip(*core.layer_weights(0).items(), strict=True)
    count = len(subject.cell.state)

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        outputs, after = subject.scan(x, rest[:count], dict(zip(names, rest[count:], strict=True)))
        return outputs, *after

    inputs = [draw(steps, lanes, size), *(draw(lanes, hidden) for _ in range(count)), *weights]
    inputs = [array.detach().clone().requires_grad_() for array in inputs]
    for near in (1e-9, 1e-8, 1e-7):
        if torch.autograd.gradcheck(run, inputs, eps=1e-6, atol=near, rtol=0.0, raise_exception=False):
            return near
    return math.inf


# Laws of the engine.


def engine_of(subject: Subject, core: Core, embedding: Tensor, output: nn.Linear) -> Engine:
    """The subject's engine over the weights of a model with this core."""
    weights = {
        "embedding.weight": embedding,
        "output.weight": output.weight,
        "output.bias": output.bias,
        **{f"core.{name}": weight for name, weight in core.named_parameters()},
    }
    sizes = {"embedding_size": E, "hidden_size": H, "num_layers": core.num_layers}
    engine = subject.engine(
        {name: weight.detach().numpy() for name, weight in weights.items()}, ModelSettings(cell=subject.name, **sizes)
    )
    engine.cell = subject.cell
    return engine


@law(ROUNDING)
def the_engine_gives_the_same_logits(subject: Subject) -> float:
    """Step by step from no state on, against the core."""
    core, draw = random_core(subject, layers=9), randoms(8)
    embedding, output = draw(V, E), nn.Linear(H, V).double()
    engine = engine_of(subject, core, embedding, output)
    ids = torch.randint(V, (T, B), generator=torch.Generator().manual_seed(9))
    outputs, after = core(embedding[ids])
    expected = F.linear(outputs, output.weight, output.bias)
    state, logits = engine.zero_state(B), []
    for step in ids.numpy():
        step_logits, state = engine.step(step, state)
        logits.append(step_logits)
    return furthest([np.stack(logits), *state], [expected, *after])


@law(ROUNDING, lambda subject: subject.cell.gates in FROM_GATES)
def the_engine_shows_the_gates_that_made_its_state(subject: Subject) -> float:
    draw, core = randoms(8), random_core(subject)
    engine, state = engine_of(subject, core, draw(V, E), nn.Linear(H, V).double()), random_text(subject)[1]
    _, after, layers = engine.step_gates(np.arange(B), tuple(part.numpy() for part in state))
    assert len(layers) == L
    worst = []
    for layer, values in enumerate(layers):
        old = dict(zip(subject.cell.state, (part[layer].numpy() for part in state), strict=True))
        rebuilt = FROM_GATES[subject.cell.gates](dict(zip(subject.cell.gates, values, strict=True)), old)
        worst.append(furthest([part[layer] for part in after], [rebuilt[name] for name in subject.cell.state]))
    return max(worst)


def obeys(subject: Subject, law: Law) -> bool | None:
    """Whether the subject obeys the law; None if it cannot be run."""
    try:
        return law.difference(subject) <= law.tolerance
    except AssertionError:
        return False
    except Exception:
        return None


PAIRS = [(of, what) for of, what in product(LAWS, SUBJECTS) if LAWS[of].concerns(SUBJECTS[what])]
