"""Inference without torch: a trained model's weights as NumPy arrays, stepped through the equations of `cells`.

Letters: `B` lanes, `V` vocabulary, `E` embedding, `H` hidden, `L` layers, `G` gates of the cell, `O` what the output
layer reads: H or, with skip connections, L·H.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from charlstm.cells import CELLS, Gates, State
from charlstm.settings import ModelSettings
from charlstm.weights import Weights


class Stepper(Protocol):
    """Steps a model of the next character: `Engine`, or `FastLSTM` to rounding."""

    output_bias: NDArray[Any]  # (V,), the logits before any text

    def zero_state(self, lanes: int) -> State:
        """The state before any text."""

    def step(self, ids: NDArray[np.integer], state: State) -> tuple[NDArray[Any], State]:
        """Read one character a lane, to the logits of the next one and the new state."""


class Engine:
    """Steps B independent lanes of a trained model, one character at a time."""

    def __init__(self, weights: Weights, settings: ModelSettings) -> None:
        """weights: as `model.safetensors` holds them, checked by `check_weights`."""
        self.cell = CELLS[settings.cell]
        self.num_layers = settings.num_layers
        self.hidden_size = settings.hidden_size
        names = self.cell.weight_shapes(1, 1)
        self.layers = [{name: weights[f"core.{name}_l{layer}"] for name in names} for layer in range(self.num_layers)]
        self.skip_connections = settings.skip_connections
        self.output_weight = weights["output.weight"]  # (V, O)
        self.output_bias = weights["output.bias"]
        first = self.layers[0]
        # what each character brings to the gates of layer 1 is one row of a (V, G·H) table
        self.input_table = weights["embedding.weight"] @ first["weight_ih"].T + first["bias_ih"]

    def zero_state(self, lanes: int) -> State:
        """The state before any text: zeros, (L, B, H) each."""
        shape = (self.num_layers, lanes, self.hidden_size)
        return tuple(np.zeros(shape, dtype=self.output_weight.dtype) for _ in self.cell.state)

    def step(self, ids: NDArray[np.integer], state: State) -> tuple[NDArray[Any], State]:
        """Read one character a lane: ids (B,) and the state, to logits (B, V) of the next one and the new state."""
        hidden, after, _ = self.step_gates(ids, state)
        return hidden @ self.output_weight.T + self.output_bias, after

    def step_gates(self, ids: NDArray[np.integer], state: State) -> tuple[NDArray[Any], State, list[Gates]]:
        """Like `step`, up to what the output layer reads (B, O), with every layer's gates."""
        from_input = self.input_table.take(ids, axis=0)  # (B, G·H)
        after: list[State] = []
        gates: list[Gates] = []
        for number, layer in enumerate(self.layers):
            if number:
                from_input = after[-1][0] @ layer["weight_ih"].T + layer["bias_ih"]
            before = tuple(part[number] for part in state)
            from_hidden = before[0] @ layer["weight_hh"].T + layer["bias_hh"]
            of_layer, values = self.cell.step(from_input, from_hidden, before, layer.get("weight_ch"), np)
            after.append(of_layer)
            gates.append(values)
        stepped = tuple(np.array(parts) for parts in zip(*after, strict=True))
        return self.read_layers(stepped[0].transpose(1, 0, 2)), stepped, gates

    def read_layers(self, hidden: NDArray[Any]) -> NDArray[Any]:
        """What the output layer reads (B, O) of the layers' hidden states (B, L, H)."""
        return hidden.reshape(len(hidden), -1) if self.skip_connections else hidden[:, -1]


def build_directions(weights: Weights, settings: ModelSettings) -> tuple[Engine, Engine]:
    """The two engines of a cloze model, one to step forwards and one backwards; the logits of a gap are their sum."""
    size = weights["output.weight"].shape[1] // 2
    shared = {"embedding.weight": weights["embedding.weight"]}
    engines = []
    for direction, columns in (("forwards", slice(0, size)), ("backwards", slice(size, 2 * size))):
        prefix = f"core.{direction}."
        own = {f"core.{name.removeprefix(prefix)}": array for name, array in weights.items() if name.startswith(prefix)}
        bias = weights["output.bias"] if direction == "forwards" else np.zeros_like(weights["output.bias"])
        output = {"output.weight": weights["output.weight"][:, columns], "output.bias": bias}
        engines.append(Engine({**shared, **own, **output}, settings))
    return engines[0], engines[1]
