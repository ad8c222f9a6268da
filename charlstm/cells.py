"""THE equations: one pure step per recurrent cell, the same function for NumPy and for torch arrays.

Letters: `B` lanes, `H` hidden size, `G` gates of the cell.

A step takes what the gates see, already summed over the input and over the hidden state, and the state:

    from_input    (B, G·H)   x @ weight_ih.T + bias_ih
    from_hidden   (B, G·H)   h @ weight_hh.T + bias_hh
    state         a tuple of (B, H) arrays: (h, c) for the LSTM family, (h,) for the others
    weight_ch     what looks at the cell state (the peepholes); None for a cell without
    xp            the array namespace, `numpy` or `torch`; only `tanh`, `exp` and torch's `sigmoid` are used

and returns the new state and the gates' values, each (B, H), in the order of `Cell.gates`. Names and the order of
the gates are torch's (i f g o; r z n), so weights move between these equations and torch's kernel as they are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

Array: TypeAlias = Any  # numpy.ndarray or torch.Tensor
Namespace: TypeAlias = Any  # the modules numpy or torch
State: TypeAlias = tuple[Array, ...]
Gates: TypeAlias = tuple[Array, ...]
CellStep: TypeAlias = Callable[[Array, Array, State, Array | None, Namespace], tuple[State, Gates]]

SATURATION = 40.0  # σ of it and of all above rounds to 1, in float64 too


@dataclass(frozen=True)
class Cell:
    """A cell: its step, the names of its gates and of its state, and the shape of its peepholes if it has any."""

    step: CellStep
    gates: tuple[str, ...]
    state: tuple[str, ...]
    weight_ch_shape: Callable[[int], tuple[int, ...]] | None = None  # of the hidden size

    def weight_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """The weights of one layer of this cell by torch's names, with their shapes."""
        rows = len(self.gates) * hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, hidden_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        if self.weight_ch_shape is not None:
            shapes["weight_ch"] = self.weight_ch_shape(hidden_size)
        return shapes


def sigmoid(x: Array, xp: Namespace) -> Array:
    """σ(x) by torch, one operation for autograd, or eˣ / (eˣ + 1) for NumPy, which has none of its own.

    Both to a few units in the last place for every x whose σ(x) is a normal number: nothing cancels or overflows.
    """
    if hasattr(xp, "sigmoid"):
        return xp.sigmoid(x)
    e = xp.exp(x.clip(max=SATURATION))
    return e / (e + 1.0)


def lstm(
    from_input: Array, from_hidden: Array, state: State, weight_ch: Array | None, xp: Namespace
) -> tuple[State, Gates]:
    """Long short-term memory: Hochreiter & Schmidhuber 1997, forget gate of Gers, Schmidhuber & Cummins 2000.

    i = σ(W_ii x + b_ii + W_hi h + b_hi)      input gate: how much of the candidate is written
    f = σ(W_if x + b_if + W_hf h + b_hf)      forget gate: how much of the old cell is kept
    g = tanh(W_ig x + b_ig + W_hg h + b_hg)   candidate
    o = σ(W_io x + b_io + W_ho h + b_ho)      output gate: how much of the cell is shown
    c' = f ⊙ c + i ⊙ g
    h' = o ⊙ tanh(c')
    """
    _, c = state
    to_i, to_f, to_g, to_o = _blocks(from_input + from_hidden, 4)
    i = sigmoid(to_i, xp)
    f = sigmoid(to_f, xp)
    g = xp.tanh(to_g)
    o = sigmoid(to_o, xp)
    c = f * c + i * g
    h = o * xp.tanh(c)
    return (h, c), (i, f, g, o)


def peephole(
    from_input: Array, from_hidden: Array, state: State, weight_ch: Array | None, xp: Namespace
) -> tuple[State, Gates]:
    """LSTM whose gates see the cell, one weight a unit: Gers & Schmidhuber 2000, "Recurrent nets that time and count".

        i = σ(… + p_i ⊙ c)       the equations of `lstm`, where the input and forget gates
        f = σ(… + p_f ⊙ c)       also see the old cell state
        g = tanh(…)
        c' = f ⊙ c + i ⊙ g
        o = σ(… + p_o ⊙ c')      and the output gate sees the new one
        h' = o ⊙ tanh(c')

    weight_ch: (3, H), the rows p_i, p_f, p_o.
    """
    _, c = state
    assert weight_ch is not None
    p_i, p_f, p_o = weight_ch
    to_i, to_f, to_g, to_o = _blocks(from_input + from_hidden, 4)
    i = sigmoid(to_i + p_i * c, xp)
    f = sigmoid(to_f + p_f * c, xp)
    g = xp.tanh(to_g)
    c = f * c + i * g
    o = sigmoid(to_o + p_o * c, xp)
    h = o * xp.tanh(c)
    return (h, c), (i, f, g, o)


def peephole_full(
    from_input: Array, from_hidden: Array, state: State, weight_ch: Array | None, xp: Namespace
) -> tuple[State, Gates]:
    """LSTM whose three gates are each an affine map of [x, h, c], a full matrix on the old cell state.

        i = σ(… + W_ci c)        the equations of `lstm`, where every gate sees the whole old cell state;
        f = σ(… + W_cf c)        the candidate sees [x, h] alone
        g = tanh(…)
        o = σ(… + W_co c)
        c' = f ⊙ c + i ⊙ g
        h' = o ⊙ tanh(c')

    The peephole variant as it is usually taught; Graves 2013 (equations 7-10) writes the same with diagonal matrices
    and the new cell in the output gate. weight_ch: (3·H, H), the blocks W_ci, W_cf, W_co.
    """
    _, c = state
    assert weight_ch is not None
    from_cell_i, from_cell_f, from_cell_o = _blocks(c @ weight_ch.T, 3)
    to_i, to_f, to_g, to_o = _blocks(from_input + from_hidden, 4)
    i = sigmoid(to_i + from_cell_i, xp)
    f = sigmoid(to_f + from_cell_f, xp)
    g = xp.tanh(to_g)
    o = sigmoid(to_o + from_cell_o, xp)
    c = f * c + i * g
    h = o * xp.tanh(c)
    return (h, c), (i, f, g, o)


def gru(
    from_input: Array, from_hidden: Array, state: State, weight_ch: Array | None, xp: Namespace
) -> tuple[State, Gates]:
    """Gated recurrent unit: Cho et al. 2014, in torch's form, where the reset gate acts after the matrix product.

    r = σ(W_ir x + b_ir + W_hr h + b_hr)              reset gate
    z = σ(W_iz x + b_iz + W_hz h + b_hz)              update gate: how much of the old state is kept
    n = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn))     candidate
    h' = (1 − z) ⊙ n + z ⊙ h
    """
    (h,) = state
    x_r, x_z, x_n = _blocks(from_input, 3)
    h_r, h_z, h_n = _blocks(from_hidden, 3)
    r = sigmoid(x_r + h_r, xp)
    z = sigmoid(x_z + h_z, xp)
    n = xp.tanh(x_n + r * h_n)
    h = (1.0 - z) * n + z * h
    return (h,), (r, z, n)


def rnn(
    from_input: Array, from_hidden: Array, state: State, weight_ch: Array | None, xp: Namespace
) -> tuple[State, Gates]:
    """The simple recurrent network of Elman 1990, with tanh: what the gates of an LSTM improve on.

    h' = tanh(W_ih x + b_ih + W_hh h + b_hh)
    """
    h = xp.tanh(from_input + from_hidden)
    return (h,), (h,)


CELLS: Mapping[str, Cell] = {
    "lstm": Cell(lstm, ("i", "f", "g", "o"), ("h", "c")),
    "peephole": Cell(peephole, ("i", "f", "g", "o"), ("h", "c"), lambda hidden_size: (3, hidden_size)),
    "peephole-full": Cell(
        peephole_full, ("i", "f", "g", "o"), ("h", "c"), lambda hidden_size: (3 * hidden_size, hidden_size)
    ),
    "gru": Cell(gru, ("r", "z", "n"), ("h",)),
    "rnn": Cell(rnn, ("n",), ("h",)),
}


class Letter(NamedTuple):
    """A gate or a part of the state in words. Only a gate from 0 to 1 has a verb: 0.3 of it is "30 % kept"."""

    name: str
    meaning: str
    verb: str = ""

    @property
    def label(self) -> str:
        """The name as it stands alone."""
        return f"{self.name} gate" if self.verb else self.name


LETTERS: Mapping[str, Letter] = {
    "i": Letter("input", "how much of the candidate is written", "written"),
    "f": Letter("forget", "how much of the old cell state is kept", "kept"),
    "g": Letter("candidate", "what would be written into the cell"),
    "o": Letter("output", "how much of the cell state is shown", "shown"),
    "r": Letter("reset", "how much of the old state the candidate sees", "passed"),
    "z": Letter("update", "how much of the old state is kept", "kept"),
    "n": Letter("candidate", "what would take the place of the old state"),
    "c": Letter("cell state", "what the unit remembers"),
    "h": Letter("hidden state", "what the unit passes to the next layer and the next step"),
}


def _blocks(x: Array, count: int) -> Array:
    """The blocks of H of the last axis of (B, count·H), one a gate: (count, B, H), which is torch's quickest cut."""
    return x.reshape(len(x), count, -1).swapaxes(0, 1)
