"""Worked examples: the published numbers, the work on paper against the cells, gradients, Adam, and what is refused."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charlstm.cells import CELLS
from charlstm.errors import SettingsError
from charlstm.settings import dump_yaml
from charlstm.teaching import Example, input_gradients, learn, load_example, walk, work_out

WORKED = Path(__file__).parents[2] / "configs" / "worked"
T, X, H = 4, 3, 2
GATES = {
    "lstm": ("forget", "input", "candidate", "output"),
    "peephole": ("forget", "input", "candidate", "output"),
    "peephole-full": ("forget", "input", "candidate", "output"),
    "gru": ("reset", "update", "candidate"),
    "rnn": ("candidate",),
}
ONE_UNIT = "inputs: [1, 2]\nrnn:\n  candidate: {h: 1, x: 1}\n"
other = ONE_UNIT.replace


def document(
    cell: str, *, units: int = H, input_size: int = X, readout: bool, backwards: bool = False
) -> dict[str, Any]:
    """The content of a file with a cell of random weights, all that it can hold."""
    random = np.random.default_rng(3)

    def numbers(*shape: int) -> Any:
        return random.uniform(-1, 1, [side for side in shape if side != 1]).tolist()

    def direction() -> dict[str, Any]:
        gates: dict[str, Any] = {}
        for gate in GATES[cell]:
            gates[gate] = {"h": numbers(units, units), "x": numbers(units, input_size), "bias": numbers(units)}
            if cell.startswith("peephole") and gate != "candidate":
                gates[gate]["c"] = numbers(units) if cell == "peephole" else numbers(units, units)
            if cell == "gru" and gate == "candidate":
                gates[gate]["bias_h"] = numbers(units)
        return gates

    gates = direction()
    if backwards:
        gates["backwards"] = direction()
    content = {"inputs": [numbers(input_size) for _ in range(T)], "h": numbers(units), cell: gates}
    if "c" in CELLS[cell].state:
        content["c"] = numbers(units)
    outputs = units * (1 + backwards)
    if readout:
        content["readout"] = {"weight": numbers(outputs), "bias": 0.3, "activation": "sigmoid"}
    return content | {"target": 0.2 if readout else numbers(outputs), "learning_rate": 0.01}


def loaded(content: dict[str, Any] | str, folder: Path, **options: str) -> Example:
    file = folder / "cell.yaml"
    file.write_text(content if isinstance(content, str) else dump_yaml(content))
    return load_example(file, **options)


@pytest.fixture(params=[(cell, two_ways) for cell in CELLS for two_ways in (False, True)], ids=str)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Example:
    """A cell whose output is h, or one of two directions with a readout."""
    cell, two_ways = request.param
    return loaded(document(cell, readout=two_ways, backwards=two_ways), tmp_path)


def test_worked_one_unit_gives_the_published_numbers() -> None:
    """All of them by rounding to two decimals, none by truncation."""
    (stages,) = work_out(load_example(WORKED / "one-unit.yaml"), "lstm").stages
    found = {stage.name: f"{stage.value[0]:.2f}" for stage in stages}
    assert found.pop("c_written") == "0.95"  # not published
    assert found == {
        "forget_gate": "1.00",
        "c_kept": "1.99",
        "candidate": "0.97",
        "input_gate": "0.99",
        "new_c": "2.95",
        "tanh_c": "0.99",
        "output_gate": "0.99",
        "new_h": "0.99",
    }


def test_worked_four_steps_gives_the_published_numbers() -> None:
    work = work_out(load_example(WORKED / "four-steps.yaml"), "lstm")
    assert f"{work.steps[-1].new_state['h'][0]:.4f}" == "0.7355"
    assert f"{work.output[0]:.4f}" == "0.9996"


def test_worked_long_lag_vanishes_in_the_rnn_and_is_kept_in_the_lstm() -> None:
    example = load_example(WORKED / "long-lag.yaml")
    assert example.inputs.ravel().tolist() == [1.0] + 39 * [0.0]
    first = {cell: input_gradients(example, cell)[0, 0] for cell in example.cells}
    assert 0 < first["rnn"] < 1e-15
    assert 0.25 < first["lstm"] < 0.27


def test_worked_work_on_paper_adds_up_to_what_the_cells_computed(example: Example) -> None:
    apply = {"sigmoid": lambda x: 1 / (1 + math.exp(-x)), "tanh": math.tanh, "none": lambda x: x}
    ((cell, _),) = example.cells.items()
    work = work_out(example, cell)
    for step, stages in zip(work.steps, work.stages, strict=True):
        for stage in stages:
            expected = [apply[stage.activation](total) for total in stage.totals]
            np.testing.assert_allclose(stage.value, expected, rtol=0, atol=1e-14, err_msg=stage.name)
        by_name = {stage.name: stage.value for stage in stages}
        assert by_name["new_h"] == tuple(step.new_state["h"])
        assert {f"{gate}_gate" for gate in GATES[cell] if gate != "candidate"} <= by_name.keys()
    if example.readout is not None:
        assert work.stages[-1][-1].value == tuple(work.output)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_worked_walk_is_torchs_own_cell(cell: str, tmp_path: Path) -> None:
    example = loaded(document(cell, readout=False), tmp_path)
    weights, order = example.cells[cell], {"lstm": "input forget candidate output"}.get(cell, " ".join(GATES[cell]))
    kernel = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}[cell](X, H).double()
    no_bias = np.zeros(H)
    with torch.no_grad():
        for name, part in (("weight_ih", "x"), ("weight_hh", "h"), ("bias_ih", "bias"), ("bias_hh", "bias_h")):
            packed = np.concatenate([weights.get(f"{gate}.{part}", no_bias) for gate in order.split()])
            getattr(kernel, name).copy_(torch.from_numpy(packed))
        state = [torch.from_numpy(example.state[letter])[None] for letter in CELLS[cell].state]
        for x in torch.from_numpy(example.inputs)[:, None]:
            new = kernel(x, tuple(state) if len(state) > 1 else state[0])
            state = list(new) if isinstance(new, tuple) else [new]
    np.testing.assert_allclose(work_out(example, cell).output, state[0][0].numpy(), rtol=0, atol=1e-14)


def numeric_gradient(function: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    found = np.zeros(at.shape)
    for place in np.ndindex(at.shape):
        nudge = np.zeros(at.shape)
        nudge[place] = 1e-5
        found[place] = (function(at + nudge) - function(at - nudge)) / 2e-5
    return found


def test_worked_gradients_are_the_numeric_ones(example: Example) -> None:
    ((cell, weights),) = example.cells.items()

    def squared_error(**changed: np.ndarray) -> float:
        output = walk(example, cell, {**weights, **changed}, example.inputs, np)[1]
        return float(((output - example.target) ** 2).sum())

    lesson = learn(example, cell)
    assert lesson.squared_errors[0] == pytest.approx(squared_error(), abs=1e-15)
    assert lesson.gradients.keys() == weights.keys()
    for name, weight in weights.items():
        expected = numeric_gradient(lambda changed, name=name: squared_error(**{name: changed}), weight)
        np.testing.assert_allclose(lesson.gradients[name], expected, rtol=0, atol=1e-9, err_msg=name)
    expected = numeric_gradient(lambda x: float(walk(example, cell, weights, x, np)[1].sum()), example.inputs)
    np.testing.assert_allclose(input_gradients(example, cell), expected, rtol=0, atol=1e-9)


def test_worked_a_step_is_one_of_torchs_adam(example: Example) -> None:
    ((cell, weights),) = example.cells.items()
    before = {name: weight.copy() for name, weight in weights.items()}
    lesson = learn(example, cell)
    for name, gradient in lesson.gradients.items():
        assert (weights[name] == before[name]).all()  # learning changes no example
        parameter = torch.nn.Parameter(torch.from_numpy(before[name].copy()))
        parameter.grad = torch.from_numpy(gradient.copy())
        torch.optim.Adam([parameter], lr=0.01).step()
        np.testing.assert_allclose(lesson.weights[name], parameter.detach().numpy(), rtol=0, atol=1e-15)


def test_worked_gradients_keep_their_digits_where_a_gate_is_saturated(tmp_path: Path) -> None:
    """σ'(50) is e⁻⁵⁰, where 1 - σ(50) is already 0."""
    gates = {gate: {"h": 0, "x": 0, "bias": 50 if gate == "output" else 1} for gate in GATES["lstm"]}
    example = loaded({"inputs": [1], "c": 2, "lstm": gates, "target": 0}, tmp_path)
    step = work_out(example, "lstm").steps[0]
    h, shown = step.new_state["h"][0], math.tanh(step.new_state["c"][0])
    gradient = learn(example, "lstm").gradients["output.bias"][0]
    assert gradient == pytest.approx(2 * h * shown * math.exp(-50), rel=1e-12, abs=0)
    gates["output"]["bias"] = 0  # there a careless |x| has no slope
    example = loaded({"inputs": [1], "c": 2, "lstm": gates, "target": 0}, tmp_path)
    gradient = learn(example, "lstm").gradients["output.bias"][0]
    assert gradient == pytest.approx(2 * (shown / 2) * shown / 4, rel=1e-12)


def test_worked_many_steps_are_those_of_adam_one_after_the_other(example: Example) -> None:
    ((cell, weights),) = example.cells.items()
    lesson = learn(example, cell, steps=3)
    now = {name: (weight, 0.0 * weight, 0.0 * weight) for name, weight in weights.items()}
    for number in range(1, 4):
        at = replace(example, cells={cell: {name: weight for name, (weight, _, _) in now.items()}})
        one = learn(at, cell)
        assert one.squared_errors[0] == pytest.approx(lesson.squared_errors[number - 1], rel=1e-12)
        for name, (weight, mean, square) in now.items():  # Kingma & Ba 2015, algorithm 1
            mean, square = 0.9 * mean + 0.1 * one.gradients[name], 0.999 * square + 0.001 * one.gradients[name] ** 2
            change = mean / (1 - 0.9**number) / (np.sqrt(square / (1 - 0.999**number)) + 1e-8)
            now[name] = weight - 0.01 * change, mean, square
    for name, (weight, _, _) in now.items():
        np.testing.assert_allclose(lesson.weights[name], weight, rtol=0, atol=1e-12, err_msg=name)
        assert (lesson.gradients[name] == learn(example, cell).gradients[name]).all()
    last = walk(example, cell, lesson.weights, example.inputs, np).output
    np.testing.assert_allclose(lesson.outputs[-1], last, rtol=0, atol=1e-14)
    assert lesson.squared_errors[-1] == pytest.approx(float(((last - example.target) ** 2).sum()), abs=1e-15)
    assert len(lesson.squared_errors) == len(lesson.outputs) == 4


def test_worked_backwards_is_forwards_over_the_inputs_turned_round(tmp_path: Path) -> None:
    content = document("lstm", readout=False, backwards=True)
    both = work_out(loaded(content, tmp_path), "lstm")
    turned = {"lstm": content["lstm"]["backwards"], "inputs": content["inputs"][::-1], "target": 0}
    alone = work_out(loaded({**content, **turned, "target": content["target"][:H]}, tmp_path), "lstm")
    assert [step.number for step in both.steps] == [1, 2, 3, 4, 4, 3, 2, 1]
    assert [step.title for step in both.steps][T - 1 : T + 1] == ["step 4", "backwards, step 4"]
    for step, expected in zip(both.steps[T:], alone.steps, strict=True):
        assert {name: part.tolist() for name, part in step.new_state.items()} == {
            name: part.tolist() for name, part in expected.new_state.items()
        }
    assert both.output[H:].tolist() == alone.output.tolist()


def test_worked_weights_can_be_drawn_from_a_seed(tmp_path: Path) -> None:
    def drawn(**changes: Any) -> Example:
        fields = {"cell": "gru", "hidden_size": 5, "seed": 1, **changes}
        content = {"inputs": [[1, 2], [0, 1], [3, 4]], "drawn": fields, "readout": {"activation": "sigmoid"}}
        return loaded(content, tmp_path)

    weights = drawn().cells["gru"]
    assert weights.keys() == drawn(seed=2).cells["gru"].keys()
    for name, weight in weights.items():
        assert (weight == drawn().cells["gru"][name]).all()
        assert (weight != drawn(seed=2).cells["gru"][name]).all()
        assert (np.abs(weight) < 5**-0.5).all()
    assert weights["candidate.x"].shape == (5, 2)
    assert weights["readout.weight"].shape == (5,)
    two_ways = drawn(bidirectional=True).cells["gru"]
    assert two_ways["readout.weight"].shape == (10,)
    assert (two_ways["backwards.reset.h"] != two_ways["reset.h"]).all()
    given = loaded({"inputs": [1], "drawn": {"cell": "rnn"}, "readout": {"weight": 3, "bias": 2}}, tmp_path)
    assert (given.cells["rnn"]["readout.weight"], given.cells["rnn"]["readout.bias"]) == ([3], 2)


def test_worked_inputs_and_target_can_be_given_instead(tmp_path: Path) -> None:
    example = loaded(ONE_UNIT, tmp_path, inputs="1, 5,7", target="-2")
    assert example.inputs.tolist() == [[1], [5], [7]]
    assert example.target is not None
    assert example.target.tolist() == [-2]
    content = document("lstm", readout=False)
    assert loaded(content, tmp_path, inputs="[1,0,0],[0,1,0]").inputs.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_worked_numbers_left_out_are_zero(tmp_path: Path) -> None:
    gates = {"reset": {"h": 1, "x": 1}, "update": {"h": 1, "x": 1}, "candidate": {"h": 1, "x": 1}}
    example = loaded({"inputs": [1], "gru": gates, "readout": {"weight": 2}}, tmp_path)
    assert example.state["h"].tolist() == [0]
    assert example.cells["gru"]["candidate.bias_h"].tolist() == [0]
    assert example.cells["gru"]["readout.bias"].tolist() == 0
    assert (example.readout, example.target, example.learning_rate) == ("none", None, 0.001)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "1: this file has no inputs, but must have inputs: a list of numbers, or of lists"),
        ("inputs: [1]", "1: this file has no cell, but must have one, under its name: lstm, peephole"),
        (ONE_UNIT + "lstn: 1", "4: lstn is not a field; did you mean lstm?"),
        (
            other("x: 1", "w: 1"),
            "3: rnn.candidate.w is not a field; it must be one of h, x",
        ),
        (other(", x: 1", ""), "3: rnn.candidate has no x, but must have x: a number between"),
        (
            other("h: 1", "h: one"),
            '3: rnn.candidate.h is "one", but must be a number between -1,000,000 and',
        ),
        (other("h: 1", "h: [1, 2]"), "3: rnn.candidate.h is [1, 2], but must be 2 lists of 2 numbers each"),
        (other("h: 1", "h: []"), "3: rnn.candidate.h is [], but must be a number"),
        (other("h: 1", "h: 1e7"), "3: rnn.candidate.h is 10000000.0, but must be a number between"),
        (other("h: 1", "h: [[1, 2], [3]]"), "3: rnn.candidate.h is [[1, 2], [3]], but must be 2 lists of 2"),
        (other("{h: 1, x: 1}", "5"), "3: rnn.candidate is 5, but must be a mapping of h, x, bias"),
        (
            other("candidate", "forget"),
            "3: rnn.forget is not a field; it must be one of candidate",
        ),
        (other("[1, 2]", "3"), "1: inputs is 3, but must be a list of numbers, or of lists"),
        (other("[1, 2]", "[[1], [2, 3]]"), "1: inputs is [[1], [2, 3]], but must be a list of numbers"),
        (other("[1, 2]", "[]"), "1: inputs is [], but must be a list of numbers"),
        (other("[1, 2]", "[[1, 2]]"), "3: rnn.candidate.x is 1, but must be a list of 2 numbers"),
        (ONE_UNIT + "c: 1", "4: c is given, but rnn keeps no cell state: leave it out"),
        (ONE_UNIT + "h: [1, 2]", "4: h is [1, 2], but must be a number"),
        (ONE_UNIT + "source: 3", "4: source is 3, but must be text"),
        (ONE_UNIT + "learning_rate: 0", "4: learning_rate is 0, but must be a number above 0"),
        (ONE_UNIT + "readout: {bias: 1}", "4: readout has no weight, but must have weight: a number"),
        (
            ONE_UNIT + "readout: {weight: 1, activation: relu}",
            '4: readout.activation is "relu", but must be "none" or "sigmoid"',
        ),
        (ONE_UNIT + "h: 1\nh: 2", "5: h is given twice, here and on line 4"),
        (ONE_UNIT + "drawn: {cell: rnn}", "2: rnn is given, and so is drawn, which draws the weights of a cell"),
        ("inputs: [1]\ndrawn: {seed: 1}", '2: drawn has no cell, but must have cell: "gru", "lstm"'),
        ("inputs: [1]\ndrawn: {cell: rnn, hidden_size: 65}", "2: drawn.hidden_size is 65, but must be an integer of"),
        (ONE_UNIT + "  backwards: {}", "4: rnn.backwards has no candidate, but must have candidate: a mapping of h, x"),
    ],
)
def test_worked_user_errors_are_one_sentence_with_file_and_line(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(text, tmp_path)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path)[:50])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"inputs": "1,x"}, '--inputs is [1, "x"], but must be a list of numbers'),
        ({"inputs": ""}, "--inputs is [], but must be"),
        ({"inputs": "1]\n---\n2"}, "--inputs: "),
        ({"target": "1,2"}, "--target is [1, 2], but must be a number"),
    ],
)
def test_worked_user_errors_on_the_command_line_name_the_option(
    options: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(ONE_UNIT, tmp_path, **options)
    assert str(caught.value).startswith(sentence)


def test_worked_cells_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    for one in (document("rnn", readout=False), document("rnn", input_size=1, readout=True, backwards=True)):
        second = document("gru", input_size=len(np.atleast_1d(one["inputs"][0])), readout=False)["gru"]
        with pytest.raises(SettingsError, match="gru is a second cell, but cells are compared by one output"):
            loaded(one | {"gru": second}, tmp_path)


def test_worked_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"c\.yaml: the worked example cannot be read: No such file"):
        load_example(tmp_path / "c.yaml")
