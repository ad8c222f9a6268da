"""The LSTM's step for sampling: the equations of `cells.lstm`, in place, in the order that costs the least.

Letters: `B` streams, `V` vocabulary, `H` hidden, `L` layers.

Everything here is derived from an `Engine`'s weights when it is made; a test holds the two equal to rounding.

- What a layer reads, the hidden state of the layer below and its own, is one row of 2·H numbers, so one product with
  the two weight matrices packed on top of each other serves both. Layer 1 looks its input up in the engine's table.
- σ(x) = tanh(x/2)/2 + 1/2: with the weights of i, f and o halved, one tanh serves all four gates. Halving is exact.
- The gates stand as i f o g, so that what the three sigmoids need is one block.
- Buffers and their views are kept from step to step; matrices begin at a cache line, which NumPy's own need not.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy import add, copyto, multiply, tanh
from numpy.typing import NDArray

from charlstm.cells import State
from charlstm.config import ModelSettings
from charlstm.engine import Engine, Stepper, Weights

Array: TypeAlias = NDArray[Any]

CACHE_LINE_BYTES = 64


def build_stepper(weights: Weights, settings: ModelSettings) -> Stepper:
    """What samples fastest from these weights: `QuickLSTM` for an lstm, else the engine itself."""
    engine = Engine(weights, settings)
    return QuickLSTM(engine) if settings.cell == "lstm" else engine


class QuickLSTM:
    """Steps B independent streams of an lstm as `Engine.step` does: twice as fast for one, a little for many."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        first, *others = engine.layers
        self.input_table = _packed((engine.input_table + first["bias_hh"]).T)  # (V, 4·H)
        self.packed = [_packed(first["weight_hh"])]  # (H, 4·H), of the other layers (2·H, 4·H)
        self.biases: list[Array | None] = [None]  # (4·H,); that of layer 1 is in the table
        for layer in others:
            self.packed.append(_packed(layer["weight_ih"], layer["weight_hh"]))
            self.biases.append(_packed((layer["bias_ih"] + layer["bias_hh"])[:, None])[0])
        self.output_weight = engine.output_weight.T  # (H, V)
        self.output_bias = engine.output_bias
        self.half = np.array(0.5, dtype=self.output_weight.dtype)  # as an array: taken up faster than a float
        self.buffers = self._buffers(1)

    def zero_state(self, streams: int) -> State:
        """The state before any text: zeros, (L, B, H) each."""
        return self.engine.zero_state(streams)

    def step(self, ids: NDArray[np.integer], state: State) -> tuple[Array, State]:
        """Read one character a stream: ids (B,) and the state, to logits (B, V) of the next one and the new state."""
        if len(ids) != len(self.buffers.h):
            self.buffers = self._buffers(len(ids))
        h, c, last, layers = self.buffers
        copyto(h, state[0].transpose(1, 0, 2))
        copyto(c, state[1])
        half = self.half
        from_input = self.input_table[ids if len(ids) > 1 else ids[0]]
        for reads, packed, bias, gates, sigmoids, i, f, o, g, kept, shown in layers:
            reads.dot(packed, gates)
            add(gates, from_input if bias is None else bias, gates)
            tanh(gates, gates)
            multiply(sigmoids, half, sigmoids)
            add(sigmoids, half, sigmoids)
            multiply(g, i, g)
            multiply(kept, f, kept)
            add(kept, g, kept)
            tanh(kept, g)
            multiply(g, o, shown)
        logits: Array = last.dot(self.output_weight)
        add(logits, self.output_bias, logits)
        return logits, (h.transpose(1, 0, 2).copy(), c.copy())

    def _buffers(self, streams: int) -> "_Buffers":
        size, count, dtype = self.engine.hidden_size, self.engine.num_layers, self.output_weight.dtype
        h = _empty((streams, count, size), dtype)
        c = _empty((count, streams, size), dtype)
        reads, gates = h.reshape(streams, -1), _empty((streams, 4 * size), dtype)
        rows = 0 if streams == 1 else slice(None)  # a single stream steps as vectors, which cost less than matrices
        i, f, o, g = (gates[rows, block * size : (block + 1) * size] for block in range(4))
        layers = [
            _Layer(
                reads[rows, max(0, number - 1) * size : (number + 1) * size],
                self.packed[number],
                self.biases[number],
                gates[rows],
                gates[rows, : 3 * size],
                i,
                f,
                o,
                g,
                c[number, rows],
                h[rows, number],
            )
            for number in range(count)
        ]
        return _Buffers(h, c, h[:, -1], layers)


class _Layer(NamedTuple):
    """One layer's weights and its views of the buffers; these are without B where there is a single stream."""

    reads: Array  # (B, 2·H): this step's h of the layer below, and its own of the last; of layer 1 its own alone
    packed: Array  # (2·H, 4·H), of layer 1 (H, 4·H)
    bias: Array | None  # (4·H,)
    gates: Array  # (B, 4·H), the same memory for every layer
    sigmoids: Array  # (B, 3·H): i, f and o
    i: Array  # (B, H)
    f: Array
    o: Array
    g: Array
    c: Array
    h: Array


class _Buffers(NamedTuple):
    """What a step of B streams works in. h stands as (B, L, H), so that what a layer reads lies side by side."""

    h: Array
    c: Array  # (L, B, H)
    last: Array  # (B, H): h of the last layer
    layers: list[_Layer]


def _packed(*matrices: Array) -> Array:
    """Matrices (4·H, K) transposed, on top of each other, as i f o g with i, f and o halved: (sum of K, 4·H).

    Goes a few rows at a time, which spares the cache, and straight to the result: fresh memory costs more than sums.
    """
    size = len(matrices[0]) // 4
    packed = _empty((sum(matrix.shape[1] for matrix in matrices), 4 * size), matrices[0].dtype)
    top = 0
    for matrix in matrices:
        into = packed[top : top + matrix.shape[1]]
        top += matrix.shape[1]
        for place, (gate, scale) in enumerate(((0, 0.5), (1, 0.5), (3, 0.5), (2, 1.0))):
            for first in range(0, size, 8):
                count = min(8, size - first)
                to, source = place * size + first, gate * size + first
                multiply(matrix[source : source + count].T, scale, into[:, to : to + count])
    return packed


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array, not yet set, that begins at a cache line."""
    count = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(count + CACHE_LINE_BYTES, dtype=np.uint8)
    start = -memory.ctypes.data % CACHE_LINE_BYTES
    return memory[start : start + count].view(dtype).reshape(shape)
