"""The LSTM's step for sampling: the equations of `cells.lstm`, in place, in the order that costs the least.

Letters: `B` lanes, `V` vocabulary, `H` hidden, `L` layers, `O` what the output layer reads.

Everything here is derived from an `Engine`'s weights when it is made; a test holds the two equal to rounding.
What each choice gains was measured with it and without it, one thread, 2×128 to 3×512:

- The input of a layer and its own h lie side by side, (B, 2·H), so that one product serves both weight matrices.
  Layer 1 looks its input up in the engine's table.
- σ(x) = tanh(x/2)/2 + 1/2: with the weights of i, f and o halved, one tanh serves all four gates. Halving is exact.
  The gates stand as i f o g, so that what the three sigmoids need is one block.
- Weights are transposed, (2·H, 4·H), which multiplies a vector up to a third faster; several lanes have a matrix a
  gate, whose results are contiguous (up to 1.7 times as fast for 8 lanes).
- Arrays and their views are kept from step to step (a quarter of 2×128), and begin at a cache line (a tenth of 2×512).
"""

from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
from numpy import add, copyto, multiply, tanh
from numpy.typing import NDArray

from charlstm.cells import State
from charlstm.errors import SettingsError
from charlstm.inference.engine import Engine, Stepper
from charlstm.inference.int8 import Int8Matrix
from charlstm.settings import ModelSettings
from charlstm.weights import Weights

Array: TypeAlias = NDArray[Any]

CACHE_LINE_BYTES = 64


def build_stepper(weights: Weights, settings: ModelSettings, *, int8: bool = False) -> Stepper:
    """The fastest stepper of a model of the next character: `FastLSTM` for an lstm, else the engine itself.

    int8: whether a single lane of an lstm is to be stepped with 8-bit weights. Raises SettingsError where they cannot.
    """
    engine = Engine(weights, settings)
    if settings.cell == "lstm":
        return FastLSTM(engine, int8=int8)
    if int8:
        raise SettingsError(
            f"sampling.weights is int8, which only an lstm has, but this model is of the cell {settings.cell}: "
            "set it to float32"
        )
    return engine


class FastLSTM:
    """Steps B independent lanes of an lstm as `Engine.step` does, in about half the time for one."""

    def __init__(self, engine: Engine, *, int8: bool = False) -> None:
        """int8: whether the weights that a single lane multiplies are rounded to 8 bits, the output layer's not."""
        first, *others = engine.layers
        self.engine = engine
        self.input_table = _packed((engine.input_table + first["bias_hh"]).T)  # (V, 4·H)
        self.weights = [_packed(first["weight_hh"])]  # (H, 4·H), of the other layers (2·H, 4·H)
        self.weights += [_packed(layer["weight_ih"], layer["weight_hh"]) for layer in others]
        self.int8_weights = [Int8Matrix(weight) for weight in self.weights] if int8 else None
        self.biases: list[Array | None] = [None]  # (4·H,); that of layer 1 is in the table
        self.biases += [_packed((layer["bias_ih"] + layer["bias_hh"])[:, None])[0] for layer in others]
        self.output_weight = engine.output_weight.T  # (O, V)
        self.output_bias = engine.output_bias
        self.half = np.array(0.5, dtype=self.output_weight.dtype)  # as an array: taken up faster than a float
        self._prepare(1)

    def zero_state(self, lanes: int) -> State:
        """The state before any text: zeros, (L, B, H) each."""
        return self.engine.zero_state(lanes)

    def step(self, ids: NDArray[np.integer], state: State) -> tuple[Array, State]:
        """Read one character a lane: ids (B,) and the state, to logits (B, V) of the next one and the new state."""
        if len(ids) != len(self.h):
            self._prepare(len(ids))
        copyto(self.h, state[0].transpose(1, 0, 2))
        copyto(self.c, state[1])
        half = self.half
        from_input = self.input_table[ids[0]] if len(ids) == 1 else _by_gate(self.input_table.take(ids, axis=0))
        for multiply_weights, bias, gates, sigmoids, i, f, o, g, c, h in self.layers:
            multiply_weights()
            add(gates, from_input if bias is None else bias, gates)
            tanh(gates, gates)
            multiply(sigmoids, half, sigmoids)
            add(sigmoids, half, sigmoids)
            multiply(g, i, g)
            multiply(c, f, c)
            add(c, g, c)
            tanh(c, g)
            multiply(g, o, h)
        logits: Array = self.read.dot(self.output_weight)
        add(logits, self.output_bias, logits)
        return logits, (self.h.transpose(1, 0, 2).copy(), self.c.copy())

    @cached_property
    def weights_by_gate(self) -> list[Array]:
        """The weights as several lanes multiply them, (4, 2·H, H)."""
        return [np.ascontiguousarray(_by_gate(weight)) for weight in self.weights]

    def _prepare(self, lanes: int) -> None:
        """Make the arrays that so many lanes are stepped in; those of a single one are vectors, which cost less."""
        count, size, dtype = self.engine.num_layers, self.engine.hidden_size, self.output_weight.dtype
        alone = lanes == 1
        self.h, self.c = np.empty((lanes, count, size), dtype), np.empty((count, lanes, size), dtype)
        self.read = self.h.reshape(lanes, -1) if self.engine.skip_connections else self.h[:, -1]  # (B, O)
        gates, rows = np.empty((4, lanes, size), dtype), self.h.reshape(lanes, -1)
        self.layers = []
        for layer, bias in enumerate(self.biases):
            reads = rows[:, max(0, layer - 1) * size : (layer + 1) * size]  # (B, 2·H), of layer 1 (B, H)
            arrays = [gates, gates[:3], *gates, self.c[layer], self.h[:, layer]]
            if alone:
                reads, *arrays = [array.reshape(-1) for array in (reads, *arrays)]
            elif bias is not None:
                bias = bias.reshape(4, 1, size)
            if not alone:
                multiply_weights: Any = partial(np.matmul, reads, self.weights_by_gate[layer], gates)
            elif self.int8_weights is None:
                multiply_weights = partial(np.dot, reads, self.weights[layer], arrays[0])
            else:
                multiply_weights = self.int8_weights[layer].bind(reads, arrays[0])
            self.layers.append((multiply_weights, bias, *arrays))


def _by_gate(rows: Array) -> Array:
    """Rows (R, 4·H) seen as one matrix a gate, (4, R, H)."""
    return rows.reshape(len(rows), 4, -1).transpose(1, 0, 2)


def _packed(*matrices: Array) -> Array:
    """Matrices (4·H, K) transposed, on top of each other, as i f o g with i, f and o halved: (sum of K, 4·H)."""
    size, dtype = len(matrices[0]) // 4, matrices[0].dtype
    shape = sum(matrix.shape[1] for matrix in matrices), 4 * size
    memory = np.empty(shape[0] * shape[1] * dtype.itemsize + CACHE_LINE_BYTES, dtype=np.uint8)
    start = -memory.ctypes.data % CACHE_LINE_BYTES
    packed: Array = memory[start : start + len(memory) - CACHE_LINE_BYTES].view(dtype).reshape(shape)
    top = 0
    for matrix in matrices:
        into = packed[top : top + matrix.shape[1]]
        top += matrix.shape[1]
        for place, (gate, scale) in enumerate(((0, 0.5), (1, 0.5), (3, 0.5), (2, 1.0))):
            multiply(matrix[gate * size : (gate + 1) * size].T, scale, into[:, place * size : (place + 1) * size])
    return packed
