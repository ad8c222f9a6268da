"""Laws of running over time, layers, lanes and directions, and of the engine, which steps without torch."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlstm.inference import Engine
from charlstm.networks.cores import BUILTIN_KERNELS, Core, Masks, State
from charlstm.settings import ModelSettings

from .equations import has_scalar, scalar_step
from .subjects import ROUNDING, B, E, H, L, Subject, T, V, furthest, law, random_core, random_text, randoms


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
def masks_multiply_the_outputs_and_recurrent_weights_of_their_layer(subject: Subject) -> float:
    """One mask a layer for all steps; with skip connections the outputs of all layers stand side by side.

    Gradients go the same ways.
    """
    layers, worst = 3, []
    x, state = random_text(subject, layers=layers)
    x.requires_grad_()
    for skip_connections in (False, True):
        core = random_core(subject, layers=layers)
        core.dropout = core.recurrent_dropout = 0.5
        core.skip_connections = skip_connections
        masks = core.draw_masks(B, torch.Generator().manual_seed(1))
        runs = (partial(core, x, state, masks=masks), partial(_masked_layers, subject, core, x, state, masks))
        worst.append(furthest(*(_with_gradients(run, x, core) for run in runs)))
    return max(worst)


def _masked_layers(subject: Subject, core: Core, x: Tensor, state: State, masks: Masks) -> tuple[Tensor, State]:
    read, last = [], []
    for layer in range(core.num_layers):
        weights = dict(core.layer_weights(layer))
        weights["weight_hh"] = weights["weight_hh"] * masks.recurrent[layer]
        x, parts = subject.scan(x, tuple(part[layer] for part in state), weights)
        x = torch.stack([step * masks.outputs[layer] for step in x])
        read.append(x)
        last.append(parts)
    return torch.cat(read, dim=2) if core.skip_connections else x, tuple(map(torch.stack, zip(*last, strict=True)))


@law(0.0)
def each_direction_has_its_own_masks(subject: Subject) -> float:
    ahead, back = (random_core(subject, seed=seed) for seed in (1, 2))
    x, _ = random_text(subject)
    both = subject.bidirectional(ahead, back)
    ahead.dropout = back.dropout = 0.5
    masks = both.draw_masks(B, torch.Generator().manual_seed(1))
    expected = [ahead(x, masks=masks[0])[0], back(x.flip(0), masks=masks[1])[0].flip(0)]
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


def engine_of(subject: Subject, core: Core, embedding: Tensor, output: nn.Linear) -> Engine:
    """The subject's engine over the weights of a model with this core."""
    weights = {
        "embedding.weight": embedding,
        "output.weight": output.weight,
        "output.bias": output.bias,
        **{f"core.{name}": weight for name, weight in core.named_parameters()},
    }
    settings = ModelSettings(
        cell=subject.name,  # type: ignore[arg-type]
        embedding_size=E,
        hidden_size=H,
        num_layers=core.num_layers,
        skip_connections=core.skip_connections,
    )
    engine = subject.engine({name: weight.detach().numpy() for name, weight in weights.items()}, settings)
    engine.cell = subject.cell
    return engine


@law(ROUNDING)
def the_engine_gives_the_same_logits(subject: Subject) -> float:
    """Step by step from no state on, against the core, without skip connections and with them."""
    layers, worst = 9, []
    for skip_connections, size in ((False, H), (True, layers * H)):
        core, draw = random_core(subject, layers=layers), randoms(8)
        core.skip_connections = skip_connections
        embedding, output = draw(V, E), nn.Linear(size, V).double()
        engine = engine_of(subject, core, embedding, output)
        ids = torch.randint(V, (T, B), generator=torch.Generator().manual_seed(9))
        outputs, after = core(embedding[ids])
        expected = F.linear(outputs, output.weight, output.bias)
        state, logits = engine.zero_state(B), []
        for step in ids.numpy():
            step_logits, state = engine.step(step, state)
            logits.append(step_logits)
        worst.append(furthest([np.stack(logits), *state], [expected, *after]))
    return max(worst)


@law(ROUNDING, has_scalar)
def the_engine_shows_the_gates_that_made_its_state(subject: Subject) -> float:
    draw, core = randoms(8), random_core(subject)
    embedding, state = draw(V, E), random_text(subject)[1]
    engine = engine_of(subject, core, embedding, nn.Linear(H, V).double())
    _, after, layers = engine.step_gates(np.arange(B), tuple(part.numpy() for part in state))
    found, expected = [], []
    reads = embedding[:B].tolist()
    for layer in range(L):
        weights = {name: weight.tolist() for name, weight in core.layer_weights(layer).items()}
        lanes = [
            scalar_step(subject.name, x, [part[layer, b].tolist() for part in state], weights)
            for b, x in enumerate(reads)
        ]
        keys = [*subject.cell.gates, *(f"{part}'" for part in subject.cell.state)]
        expected += [np.array([lane[key] for lane in lanes]) for key in keys]
        found += [*layers[layer], *(part[layer] for part in after)]
        reads = [lane["h'"] for lane in lanes]
    return furthest([np.array(len(layers)), *found], [np.array(L), *expected])
