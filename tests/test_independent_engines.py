"""The cells against programs that others wrote, with random weights: onnxruntime, ONNX's reference evaluator, Keras.

Each orders the gates in its own way, so agreement is no accident of a shared layout. ONNX's own node tests are run for
the record too: their weights are all alike, so any order of the gates passes them.

Letters: `T` steps, `B` lanes, `E` input, `H` hidden, `D` directions.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from charlstm.cells import CELLS
from charlstm.networks.cores import unrolled_scan

from .laws import B, E, H, T, tell

torch.set_num_threads(1)

Array = NDArray[Any]
Weights = dict[str, Array]
Texts = tuple[Array, list[tuple[Array, ...]], list[Weights]]  # x (T, B, E); state and weights of each direction
Found = tuple[Array, list[tuple[Array, ...]]]  # outputs (T, D, B, H); last state of each direction

GATES = {"lstm": "ifgo", "peephole": "ifgo", "gru": "rzn", "rnn": "n"}
ONNX_GATES = {"LSTM": "iofg", "GRU": "zrn", "RNN": "n"}  # g is "c" there, n "h"
OPERATORS = {"lstm": "LSTM", "peephole": "LSTM", "gru": "GRU", "rnn": "RNN"}


@pytest.fixture(scope="module")
def differences(request: pytest.FixtureRequest) -> Iterator[dict[str, dict[str, float]]]:
    """The largest difference of each engine by cell, shown at the end of the module."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    yield found
    lines = (f"{name}: " + ", ".join(f"{cell} {most:.1e}" for cell, most in of.items()) for name, of in found.items())
    tell(request, lines)


def random_texts(cell: str, directions: int, dtype: type) -> Texts:
    """Input, states and weights, all random."""
    random = np.random.default_rng(1)
    x = random.normal(size=(T, B, E)).astype(dtype)
    states = [tuple(random.normal(size=(B, H)).astype(dtype) for _ in CELLS[cell].state) for _ in range(directions)]
    shapes = CELLS[cell].weight_shapes(E, H)
    weights = [
        {name: random.normal(scale=0.5, size=shape).astype(dtype) for name, shape in shapes.items()}
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
    helper = pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[test]'").helper
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
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[test]'")
    feeds = onnx_feeds(cell, texts)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = onnx_model(cell, direction, feeds).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return as_found(session.run(None, feeds))


def run_onnx_reference(cell: str, direction: str, texts: Texts) -> Found:
    feeds = onnx_feeds(cell, texts)
    model = onnx_model(cell, direction, feeds)
    from onnx.reference import ReferenceEvaluator

    return as_found(ReferenceEvaluator(model).run(None, feeds))


# Keras: LSTM i f c o, GRU z r h; one bias for all but the GRU.


@cache
def keras_on_torch() -> Any:
    """Keras takes its backend from the environment when it is first imported, and writes a file in its home."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as home:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", home)
        keras = pytest.importorskip("keras", reason="keras is not installed: pip install -e '.[test]'")
    assert keras.backend.backend() == "torch"
    return keras


def run_keras(cell: str, direction: str, texts: Texts) -> Found:
    """On a processor Keras runs its own loop; torch's kernel is for its GPU path."""
    x, states, weights = texts
    ways = {"forward": (1,), "reverse": (-1,), "bidirectional": (1, -1)}[direction]
    outputs, last = [], []
    with keras_on_torch().device("cpu"), torch.no_grad():
        for way, state, weight in zip(ways, states, weights, strict=True):
            layer = keras_layer(cell, weight, backwards=way == -1)
            read, *after = layer(x.swapaxes(0, 1), initial_state=[torch.from_numpy(part) for part in state])
            outputs.append(read.numpy().swapaxes(0, 1)[::way])  # Keras gives it in the order it was read in
            last.append(tuple(part.numpy() for part in after))
    return np.stack(outputs, axis=1), last


def keras_layer(cell: str, weights: Weights, *, backwards: bool) -> Any:
    layers = keras_on_torch().layers
    kind, order, extra = {
        "lstm": (layers.LSTM, "ifgo", {}),
        "gru": (layers.GRU, "zrn", {"reset_after": True}),
        "rnn": (layers.SimpleRNN, "n", {}),
    }[cell]
    layer = kind(H, return_sequences=True, return_state=True, go_backwards=backwards, dtype="float64", **extra)
    layer.build((B, T, E))
    packed = {name: reordered(array, GATES[cell], order) for name, array in weights.items()}
    biases = (packed["bias_ih"], packed["bias_hh"])
    bias = np.stack(biases) if cell == "gru" else sum(biases)
    layer.set_weights([packed["weight_ih"].T, packed["weight_hh"].T, bias])
    return layer


RUNNERS: dict[str, tuple[Callable[[str, str, Texts], Found], type, float]] = {
    "onnxruntime": (run_onnxruntime, np.float32, 3e-6),
    "onnx reference": (run_onnx_reference, np.float64, 1e-12),
    "keras": (run_keras, np.float64, 1e-12),
}
CASES = [
    (engine, cell, direction)
    for engine in RUNNERS
    for cell in GATES
    for direction in ("forward", "reverse", "bidirectional")
    if (engine, cell) != ("keras", "peephole")  # which Keras lacks
]


@pytest.mark.parametrize(("engine", "cell", "direction"), CASES)
def test_independent_engines_agree_with_every_cell_that_they_have(
    engine: str, cell: str, direction: str, differences: dict[str, dict[str, float]]
) -> None:
    run, dtype, tolerance = RUNNERS[engine]
    if (engine, cell) == ("keras", "rnn"):
        tolerance = 3e-6  # SimpleRNN multiplies by keras.ops.matmul, which rounds float64 to float32
    texts = random_texts(cell, 2 if direction == "bidirectional" else 1, dtype)
    difference = furthest(by_hand(cell, direction, texts), run(cell, direction, texts))
    label = f"{engine} ({np.dtype(dtype).name})"
    differences[label][cell] = max(differences[label][cell], difference)
    assert difference <= tolerance


@pytest.mark.parametrize("engine", ["onnxruntime", "onnx reference"])
def test_independent_engines_agree_with_peephole_full_where_onnx_can_say_it(
    engine: str, differences: dict[str, dict[str, float]]
) -> None:
    """Diagonal matrices for i and f and none for o: ONNX's peepholes of i and f see the old cell too."""
    run, dtype, tolerance = RUNNERS[engine]
    x, states, (weights,) = random_texts("peephole", 1, dtype)
    p_i, p_f, p_o = weights["weight_ch"]
    p_o[:] = 0.0
    full = {**weights, "weight_ch": np.concatenate([np.diag(p_i), np.diag(p_f), np.diag(p_o)])}
    found = run("peephole", "forward", (x, states, [weights]))
    difference = furthest(by_hand("peephole-full", "forward", (x, states, [full])), found)
    differences[f"{engine} ({np.dtype(dtype).name})"]["peephole-full"] = difference
    assert difference <= tolerance


# ONNX's node tests


def node_tests(operator: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, list[Array], list[Array]]]:
    """The published tests of an operator: node, inputs and expected outputs by name."""
    pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[test]'")
    from onnx.backend.test.case.node import gru, lstm

    module = {"LSTM": lstm, "GRU": gru}[operator]
    found: dict[str, tuple[Any, list[Array], list[Array]]] = {}

    def keep(node: Any, inputs: list[Array], outputs: list[Array], name: str) -> None:
        found[name] = (node, inputs, outputs)

    monkeypatch.setattr(module, "expect", keep)
    tests = getattr(module, operator)
    for name in dir(tests):
        if name.startswith("export_"):
            getattr(tests, name)()
    return found


def run_node(node: Any, inputs: list[Array], order: str) -> dict[str, Array]:
    """The node as our cells run it, its gates taken to lie in the given order; outputs by name."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    direction = attributes["direction"].s.decode() if "direction" in attributes else "forward"
    batch_first = "layout" in attributes and attributes["layout"].i == 1
    given = {name: array for name, array in zip(node.input, inputs, strict=True) if name}
    cell = {"LSTM": "peephole", "GRU": "gru"}[node.op_type]
    x = given["X"].swapaxes(0, 1) if batch_first else given["X"]
    directions, rows, hidden_size = given["R"].shape
    biases = given.get("B", np.zeros((directions, 2 * rows), x.dtype))
    peepholes = given.get("P", np.zeros((directions, 3 * hidden_size), x.dtype))
    weights = []
    for d in range(directions):
        packed = {"weight_ih": given["W"][d], "weight_hh": given["R"][d]}
        packed["bias_ih"], packed["bias_hh"] = np.split(biases[d], 2)
        weights.append({name: reordered(array, order, GATES[cell]) for name, array in packed.items()})
        if cell == "peephole":
            weights[d]["weight_ch"] = peepholes[d].reshape(3, hidden_size)[[0, 2, 1]]
    zeros = np.zeros((x.shape[1], hidden_size), x.dtype)
    outputs, last = by_hand(cell, direction, (x, [tuple(zeros for _ in CELLS[cell].state)] * directions, weights))
    results = {"Y": outputs, **{f"Y_{part}": np.stack(arrays) for part, *arrays in zip("hc", *last, strict=False)}}
    if batch_first:
        results["Y"] = results["Y"].transpose(2, 0, 1, 3)
        results["Y_h"] = results["Y_h"].swapaxes(0, 1)
    return results


def passes(test: tuple[Any, list[Array], list[Array]], order: str) -> bool:
    node, inputs, expected = test
    results = run_node(node, inputs, order)
    names = [name for name in node.output if name]
    return all(
        np.allclose(results[name], array, rtol=1e-3, atol=1e-7)  # the tolerance of ONNX's own runner
        for name, array in zip(names, expected, strict=True)
    )


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_independent_engines_onnx_node_tests_pass_in_every_order_of_the_gates(
    operator: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    tests = node_tests(operator, monkeypatch)
    tests.pop("test_gru_seq_length", None)  # two steps of the other GRU, linear_before_reset = 0, which torch's is not
    orders = list(map("".join, permutations(ONNX_GATES[operator])))
    passed = [order for order in orders if all(passes(test, order) for test in tests.values())]
    tell(
        request,
        [f"onnx node tests of {operator}: all {len(tests)} pass in {len(passed)} of {len(orders)} orders of the gates"],
    )
    assert ONNX_GATES[operator] in passed
    assert passed == orders  # no teeth: if this fails, they have grown some, and a wrong order can be told by them
