"""Scalar equations of every cell, from the papers, on plain Python numbers: what the laws hold `cells` against."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Numbers = list[float]


@dataclass(frozen=True)
class Step:
    """One step of one lane of one layer, in numbers; `gates` is the order of the gates in the rows of the weights."""

    gates: str
    x: Numbers
    state: list[Numbers]
    weights: Mapping[str, Any]

    def of_x(self, gate: str, j: int) -> float:
        """What the gate's unit j sees of the input, with its bias."""
        row = self.gates.index(gate) * len(self.state[0]) + j
        return dot(self.weights["weight_ih"][row], self.x) + float(self.weights["bias_ih"][row])

    def of_h(self, gate: str, j: int) -> float:
        """What the gate's unit j sees of the hidden state, with its bias."""
        row = self.gates.index(gate) * len(self.state[0]) + j
        return dot(self.weights["weight_hh"][row], self.state[0]) + float(self.weights["bias_hh"][row])


def sigma(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def tanh(x: float) -> float:
    return (math.exp(x) - math.exp(-x)) / (math.exp(x) + math.exp(-x))


def dot(row: Numbers, column: Numbers) -> float:
    return sum(a * b for a, b in zip(row, column, strict=True))


def scalar_lstm(
    step: Step, j: int, *, i: float = 0.0, f: float = 0.0, o: float = 0.0, o_per_new_c: float = 0.0
) -> dict[str, float]:
    """Gers, Schmidhuber & Cummins 2000; i, f, o and o_per_new_c are what peepholes add, none there."""
    input_gate = sigma(step.of_x("i", j) + step.of_h("i", j) + i)
    forget_gate = sigma(step.of_x("f", j) + step.of_h("f", j) + f)
    candidate = tanh(step.of_x("g", j) + step.of_h("g", j))
    new_c = forget_gate * step.state[1][j] + input_gate * candidate
    output_gate = sigma(step.of_x("o", j) + step.of_h("o", j) + o + o_per_new_c * new_c)
    new_h = output_gate * tanh(new_c)
    return {"i": input_gate, "f": forget_gate, "g": candidate, "o": output_gate, "h'": new_h, "c'": new_c}


def scalar_peephole(step: Step, j: int) -> dict[str, float]:
    """Gers & Schmidhuber 2000: the rows of weight_ch are those of i, f and o; o sees the new cell."""
    p_i, p_f, p_o = (row[j] for row in step.weights["weight_ch"])
    c = step.state[1][j]
    return scalar_lstm(step, j, i=p_i * c, f=p_f * c, o_per_new_c=p_o)


def scalar_peephole_full(step: Step, j: int) -> dict[str, float]:
    """Every gate sees all of the old cell through a matrix; the blocks of weight_ch are those of i, f and o."""
    c = step.state[1]
    i, f, o = (dot(step.weights["weight_ch"][block * len(c) + j], c) for block in range(3))
    return scalar_lstm(step, j, i=i, f=f, o=o)


def scalar_gru(step: Step, j: int) -> dict[str, float]:
    """The page of torch.nn.GRU: Cho et al. 2014 with the reset gate after the product."""
    r = sigma(step.of_x("r", j) + step.of_h("r", j))
    z = sigma(step.of_x("z", j) + step.of_h("z", j))
    n = tanh(step.of_x("n", j) + r * step.of_h("n", j))
    return {"r": r, "z": z, "n": n, "h'": (1 - z) * n + z * step.state[0][j]}


def scalar_rnn(step: Step, j: int) -> dict[str, float]:
    """Elman 1990."""
    n = tanh(step.of_x("n", j) + step.of_h("n", j))
    return {"n": n, "h'": n}


SCALAR: Mapping[str, tuple[str, Callable[[Step, int], dict[str, float]]]] = {  # torch's order of rows, and the rest
    "lstm": ("ifgo", scalar_lstm),
    "peephole": ("ifgo", scalar_peephole),
    "peephole-full": ("ifgo", scalar_peephole_full),
    "gru": ("rzn", scalar_gru),
    "rnn": ("n", scalar_rnn),
}


def scalar_step(name: str, x: Numbers, state: list[Numbers], w: Mapping[str, Any]) -> dict[str, Numbers]:
    """One lane, one layer, one step: every gate and the new state, unit by unit."""
    gates, equations = SCALAR[name]
    units = [equations(Step(gates, x, state, w), j) for j in range(len(state[0]))]
    return {key: [unit[key] for unit in units] for key in units[0]}
