"""Torch cores: a cell's equations over time, layers and lanes, by torch's kernel or by hand.

Letters: `T` steps, `B` lanes, `I` size of a layer's input, `H` hidden size, `L` layers, `G` gates of the cell.

A core owns the weights under torch's names (`weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, and
`weight_ch_l0` for a cell with peepholes) and runs one `Scan` a layer. There are two kinds of scan and nothing else
differs: `builtin_scan` hands a layer to torch's kernel, `unrolled_scan` loops over the equations of `cells`.
Both are functions of the weights, so whoever calls may change a window's weights and stay on the fast path.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from charlstm.cells import CELLS, Cell, State
from charlstm.settings import ModelSettings

LayerWeights: TypeAlias = Mapping[str, Tensor]  # weight_ih, weight_hh, bias_ih, bias_hh and perhaps weight_ch
Scan: TypeAlias = Callable[[Tensor, State, LayerWeights], tuple[Tensor, State]]


def lanes_of(state: State | None, lanes: slice) -> State | None:
    """The part of a state (each L, B, H) that some of the lanes have; None of none."""
    return None if state is None else tuple(part[:, lanes] for part in state)


def join_lanes(states: Iterable[State]) -> State:
    """The state of all lanes from those of parts of them, in order."""
    return tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))


def reset_lanes(state: State | None, fresh: NDArray[np.bool_]) -> State | None:
    """The state (each L, B, H) with the lanes that begin afresh, fresh (B,), at zero; None where all of them do."""
    if state is None or fresh.all():
        return None
    if not fresh.any():
        return state
    kept = torch.from_numpy(~fresh).to(state[0].device)[:, None]  # (B, 1)
    return tuple(part * kept for part in state)


class Masks(NamedTuple):
    """What one window leaves out of a core: zeros, and elsewhere what makes up for them. Empty where nothing is."""

    outputs: Sequence[Tensor] = ()  # (B, H) a layer
    recurrent: Sequence[Tensor] = ()  # (G·H, H) a layer


NO_MASKS = Masks()


class Core(nn.Module):
    """Layers of one cell, each a scan over time: (T, B, I) to (T, B, O), O the output's size."""

    def __init__(
        self,
        cell: Cell,
        scan: Scan,
        *,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        skip_connections: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.cell = cell
        self.scan = scan
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.skip_connections = skip_connections
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.output_size = num_layers * hidden_size if skip_connections else hidden_size
        for layer in range(num_layers):
            shapes = cell.weight_shapes(hidden_size if layer else input_size, hidden_size)
            for name, shape in shapes.items():
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(torch.zeros(shape)))

    def forward(self, x: Tensor, state: State | None = None, *, masks: Masks = NO_MASKS) -> tuple[Tensor, State]:
        """Run T steps from `state` (zeros if None) and return every output with the state after the last.

        x: (T, B, I) in the precision to compute in; the weights are cast to it.
        state: arrays of (L, B, H), one a name in `cell.state`; returned in the same form, float32 or wider.
        masks: from `draw_masks`, multiplied into each layer's output and into its recurrent weights.
        Returns the last layer's outputs or, with skip connections, those of all layers side by side (Graves 2013).
        """
        if state is None:
            state = self.zero_state(x.shape[1], like=x)
        outputs: list[Tensor] = []
        last: list[State] = []
        for layer in range(self.num_layers):
            weights = dict(self.layer_weights(layer))
            if masks.recurrent:
                weights["weight_hh"] = weights["weight_hh"] * masks.recurrent[layer]
            weights = {name: weight.to(x.dtype) for name, weight in weights.items()}
            x, after = self.scan(x, tuple(part[layer].to(x.dtype) for part in state), weights)
            if masks.outputs:
                x = x * masks.outputs[layer].to(x.dtype)  # (T, B, H) * (B, H): one mask for all T
            outputs.append(x)
            last.append(after)
        read = torch.cat(outputs, dim=-1) if self.skip_connections else x
        return read, tuple(torch.stack(parts).to(state[0].dtype) for parts in zip(*last, strict=True))

    def layer_weights(self, layer: int) -> LayerWeights:
        """The parameters of one layer, by their names without the layer's number."""
        suffix = f"_l{layer}"
        return {name.removesuffix(suffix): p for name, p in self.named_parameters() if name.endswith(suffix)}

    def zero_state(self, lanes: int, *, like: Tensor) -> State:
        """The state before any text: zeros, (L, B, H) each, at least float32."""
        shape = (self.num_layers, lanes, self.hidden_size)
        dtype = torch.promote_types(like.dtype, torch.float32)
        return tuple(torch.zeros(shape, dtype=dtype, device=like.device) for _ in self.cell.state)

    def draw_masks(self, lanes: int, generator: torch.Generator) -> Masks:
        """What one window leaves out of the layers' outputs and of their recurrent weights.

        Gal & Ghahramani 2016; DropConnect of W_hh as in Merity et al. 2018. One mask a window regularises better than
        one a step, and its random numbers cost 1/T of them.
        """
        layers = range(self.num_layers)
        size = self.get_parameter("weight_hh_l0").shape
        return Masks(
            [draw_mask((lanes, self.hidden_size), self.dropout, generator) for _ in layers] if self.dropout else (),
            [draw_mask(size, self.recurrent_dropout, generator) for _ in layers] if self.recurrent_dropout else (),
        )

    @torch.no_grad()
    def initialise(self, *, forget_bias: float, generator: torch.Generator) -> None:
        """Xavier input weights, orthogonal recurrent weights gate by gate, zero biases and peepholes.

        The forget gate's bias starts at `forget_bias` (Gers et al. 2000; Jozefowicz et al. 2015 found 1 to be best).
        Torch's two biases add, so it is written into one of them.
        """
        for layer in range(self.num_layers):
            weights = self.layer_weights(layer)
            for gate in range(len(self.cell.gates)):
                rows = slice(gate * self.hidden_size, (gate + 1) * self.hidden_size)
                nn.init.xavier_uniform_(weights["weight_ih"][rows], generator=generator)
                nn.init.orthogonal_(weights["weight_hh"][rows], generator=generator)
                if self.cell.gates[gate] == "f":
                    weights["bias_ih"][rows] = forget_bias


class Bidirectional(nn.Module):
    """Two cores side by side, one reading the text forwards and one backwards: (T, B, I) to (T, B, 2·H).

    Schuster & Paliwal 1997. The stacks do not mix below their outputs, so that what `forwards` gives at t has seen
    nothing after t, and what `backwards` gives nothing before it. (Torch's bidirectional layers, each of which reads
    both directions of the one below, are a stack of one-layer `Bidirectional`s.)
    """

    def __init__(self, forwards: Core, backwards: Core) -> None:
        super().__init__()
        self.forwards = forwards
        self.backwards = backwards
        self.cell, self.hidden_size = forwards.cell, forwards.hidden_size

    def forward(
        self, x: Tensor, *, lengths: Tensor | None = None, masks: tuple[Masks, Masks] = (NO_MASKS, NO_MASKS)
    ) -> Tensor:
        """Outputs at each step, forwards then backwards, both from a zero state at their end of the text.

        lengths: (B,) of texts that end before T, None for none; what is put out after their ends means nothing.
        """
        ahead, _ = self.forwards(x, masks=masks[0])
        back, _ = self.backwards(_reverse(x, lengths), masks=masks[1])
        return torch.cat([ahead, _reverse(back, lengths)], dim=-1)

    def zero_state(self, _lanes: int, *, like: Tensor) -> State:  # noqa: ARG002 - as `Core.zero_state`
        """No state is carried: the backward direction would need the text to come."""
        return ()

    def draw_masks(self, lanes: int, generator: torch.Generator) -> tuple[Masks, Masks]:
        """As `Core.draw_masks`, for the one direction and then for the other."""
        return self.forwards.draw_masks(lanes, generator), self.backwards.draw_masks(lanes, generator)

    def initialise(self, *, forget_bias: float, generator: torch.Generator) -> None:
        """As `Core.initialise`, each direction with its own random numbers."""
        self.forwards.initialise(forget_bias=forget_bias, generator=generator)
        self.backwards.initialise(forget_bias=forget_bias, generator=generator)


def _reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each lane's text (T, B, …) from its end to its beginning, what follows its end left where it is."""
    if lengths is None:
        return x.flip(0)
    at = torch.arange(len(x), device=x.device)[:, None]  # (T, 1)
    places = torch.where(at < lengths, lengths - 1 - at, at)  # (T, B)
    return x.gather(0, places[..., None].expand_as(x))


def build_core(settings: ModelSettings) -> Core:
    """The core of one direction that the settings name, its weights still zero."""
    cell = CELLS[settings.cell]
    by_hand = settings.kernel == "unrolled" or settings.cell not in BUILTIN_KERNELS
    return Core(
        cell,
        unrolled_scan(cell) if by_hand else builtin_scan(settings.cell),
        input_size=settings.embedding_size,
        hidden_size=settings.hidden_size,
        num_layers=settings.num_layers,
        skip_connections=settings.skip_connections,
        dropout=settings.dropout,
        recurrent_dropout=settings.recurrent_dropout,
    )


def draw_mask(shape: Sequence[int], dropout: float, generator: torch.Generator) -> Tensor:
    """A float32 mask, zero with the probability `dropout` to the nearest 1/256; what is kept is scaled to mean 1.

    A random byte decides about each place, which costs a tenth of torch's Bernoulli numbers: the masks of recurrent
    weights are as large as these, and new at every step.
    """
    count = math.prod(shape)
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    kept = max(1, 256 - round(256 * dropout))
    return (words.view(torch.uint8)[:count].view(*shape) <= kept - 1) * (256 / kept)  # 256 is no uint8


BUILTIN_KERNELS: Mapping[str, Callable[..., tuple[Tensor, ...]]] = {
    "lstm": torch.lstm,
    "gru": torch.gru,
    "rnn": torch.rnn_tanh,
}


def builtin_scan(cell_name: str) -> Scan:
    """One layer by torch's own kernel (oneDNN, cuDNN)."""
    kernel = BUILTIN_KERNELS[cell_name]

    def scan(x: Tensor, state: State, weights: LayerWeights) -> tuple[Tensor, State]:
        before = tuple(part.unsqueeze(0) for part in state)  # the kernel wants (1, B, H)
        flat = for_kernel([weights[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")])
        training = torch.is_grad_enabled()  # oneDNN then keeps what the backward pass needs
        # biases, layers, dropout, training, bidirectional, batch first
        options = (True, 1, 0.0, training, False, False)
        outputs, *after = kernel(x, before if len(before) > 1 else before[0], flat, *options)
        return outputs, tuple(part.squeeze(0) for part in after)

    return scan


def for_kernel(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The weights of a layer as the kernel of their device reads them: on a GPU in one buffer."""
    if not tensors[0].is_cuda:
        return tensors
    assert torch.backends.cudnn.is_available(), "without cuDNN torch computes a layer gate by gate"  # type: ignore[no-untyped-call]
    return in_one_buffer(tensors)


def in_one_buffer(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same tensors as views of one buffer, in their order.

    cuDNN reads a layer's weights from such a buffer: W_ih, W_hh, b_ih, b_hh. Others are copied at every call.
    """
    buffer = torch.cat([tensor.flatten() for tensor in tensors])
    parts = torch.split(buffer, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def unrolled_scan(cell: Cell) -> Scan:
    """One layer by hand: the cell's equations, step after step, under autograd."""

    def scan(x: Tensor, state: State, weights: LayerWeights) -> tuple[Tensor, State]:
        # T arrays (B, G·H): one array indexed step by step would cost a (T, B, G·H) gradient at every step
        from_input = F.linear(x, weights["weight_ih"], weights["bias_ih"]).unbind()
        outputs = []
        for t in range(x.shape[0]):
            from_hidden = F.linear(state[0], weights["weight_hh"], weights["bias_hh"])
            state, _ = cell.step(from_input[t], from_hidden, state, weights.get("weight_ch"), torch)
            outputs.append(state[0])
        return torch.stack(outputs), state

    return scan
