"""The cells against an engine that others wrote, onnxruntime, with random weights.

It orders the gates in another way than torch, so that agreement is no accident of a shared layout.

Letters: `T` steps, `B` lanes, `E` input, `H` hidden, `D` directions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from charlstm.cells import CELLS
from charlstm.networks.cores import unrolled_scan

from .laws.subjects import B, E, H, T

torch.set_num_threads(1)

Array = NDArray[Any]
Weights = dict[str, Array]
Texts = tuple[Array, list[tuple[Array, ...]], list[Weights]]  # x (T, B, E); state and weights of each direction
Found = tuple[Array, list[tuple[Array, ...]]]  # outputs (T, D, B, H); last state of each direction

GATES = {"lstm": "ifgo", "peephole": "ifgo", "gru": "rzn", "rnn": "n"}
ONNX_GATES = {"LSTM": "iofg", "GRU": "zrn", "RNN": "n"}  # g is "c" there, n "h"
TOLERANCE = 3e-6  # of float32
OPERATORS = {"lstm": "LSTM", "peephole": "LSTM", "gru": "GRU", "rnn": "RNN"}


def random_texts(cell: str, directions: int) -> Texts:
    """Input, states and weights, all random."""
    random = np.random.default_rng(1)
    x = random.normal(size=(T, B, E)).astype(np.float32)
    states = [
        tuple(random.normal(size=(B, H)).astype(np.float32) for _ in CELLS[cell].state) for _ in range(directions)
    ]
    shapes = CELLS[cell].weight_shapes(E, H)
    weights = [
        {name: random.normal(scale=0.5, size=shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(directions)
    ]
    return x, states, weights


def by_hand(cell: str, direction: str, texts: Texts) -> Found:
    """The hand-written scan; a reverse direction reads the text from its end."""
    x, states, weights = texts
    scan = unrolled_scan(CELLS[cell])
    ways = {"forward": (1,), "reverse": (-1,), "bidirectional": (1, -1)}[direction]
    outputs, last = [], []
    for way, state, weight in zip(ways, states, weights, strict=True):
        read = torch.from_numpy(x[::way].copy())
        output, after = scan(
            read, tuple(map(torch.from_numpy, state)), {k: torch.from_numpy(w) for k, w in weight.items()}
        )
        outputs.append(output.numpy()[::way])
        last.append(tuple(part.numpy() for part in after))
    return np.stack(outputs, axis=1), last


def furthest(found: Found, expected: Found) -> float:
    pairs = [(found[0], expected[0])]
    for ours, theirs in zip(found[1], expected[1], strict=True):
        pairs += zip(ours, theirs, strict=True)
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    return float(np.max([np.abs(a - b).max() for a, b in pairs]))


def reordered(packed: Array, have: str, want: str) -> Array:
    """The blocks of rows, one a gate, in another order."""
    blocks = dict(zip(have, np.split(packed, len(have)), strict=True))
    return np.concatenate([blocks[gate] for gate in want])


# ONNX


def onnx_feeds(cell: str, texts: Texts) -> Weights:
    """Inputs of the ONNX operator: W, R, B (input bias, then recurrent) and P (i o f), each with a leading D."""
    x, states, weights = texts
    order = ONNX_GATES[OPERATORS[cell]]

    def stack(name: str) -> Array:
        return np.stack([reordered(w[name], GATES[cell], order) for w in weights])

    feeds = {"X": x, "W": stack("weight_ih"), "R": stack("weight_hh")}
    feeds["B"] = np.concatenate([stack("bias_ih"), stack("bias_hh")], axis=1)
    feeds |= {f"initial_{part}": np.stack(arrays) for part, *arrays in zip("hc", *states, strict=False)}
    if cell == "peephole":
        feeds["P"] = np.stack([np.concatenate([w["weight_ch"][k] for k in (0, 2, 1)]) for w in weights])
    return feeds


def onnx_model(cell: str, direction: str, feeds: Weights) -> Any:
    helper = pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[verify]'").helper
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in feeds.items()}
    inputs = ["X", "W", "R", "B", "", "initial_h", *(name for name in ("initial_c", "P") if name in feeds)]
    outputs = ["Y", "Y_h", *(["Y_c"] if "initial_c" in feeds else [])]
    extra = {"linear_before_reset": 1} if cell == "gru" else {}
    node = helper.make_node(OPERATORS[cell], inputs, outputs, hidden_size=H, direction=direction, **extra)
    graph = helper.make_graph(
        [node],
        "one layer",
        [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in feeds.items()],
        [helper.make_tensor_value_info(name, kinds["X"], None) for name in outputs],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def as_found(results: list[Array]) -> Found:
    """ONNX's Y (T, D, B, H) and its Y_h, Y_c (D, B, H)."""
    return results[0], list(zip(*results[1:], strict=True))


def run_onnxruntime(cell: str, direction: str, texts: Texts) -> Found:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[verify]'")
    feeds = onnx_feeds(cell, texts)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = onnx_model(cell, direction, feeds).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return as_found(session.run(None, feeds))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("cell", GATES)
def test_independent_engines_agree_with_every_cell_that_they_have(
    cell: str, direction: str, measured: Callable[[str, float], None]
) -> None:
    texts = random_texts(cell, 2 if direction == "bidirectional" else 1)
    difference = furthest(by_hand(cell, direction, texts), run_onnxruntime(cell, direction, texts))
    measured(f"onnxruntime's {cell} (allowed {TOLERANCE:g})", difference)
    assert difference <= TOLERANCE


def test_independent_engines_agree_with_peephole_full_where_onnx_can_say_it(
    measured: Callable[[str, float], None],
) -> None:
    """Diagonal matrices for i and f and none for o: ONNX's peepholes of i and f see the old cell too."""
    x, states, (weights,) = random_texts("peephole", 1)
    p_i, p_f, p_o = weights["weight_ch"]
    p_o[:] = 0.0
    full = {**weights, "weight_ch": np.concatenate([np.diag(p_i), np.diag(p_f), np.diag(p_o)])}
    found = run_onnxruntime("peephole", "forward", (x, states, [weights]))
    difference = furthest(by_hand("peephole-full", "forward", (x, states, [full])), found)
    measured(f"onnxruntime's peephole-full (allowed {TOLERANCE:g})", difference)
    assert difference <= TOLERANCE
