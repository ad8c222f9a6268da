"""`charlstm trace`: what it prints on a terminal and in a pipe, its object, its picture, and its user errors."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from charlstm.cells import CELLS
from charlstm.cli import app
from charlstm.settings import dump_yaml
from charlstm.teaching import learn, load_example

from ..forks import Forks
from ..teaching.test_worked_example import GATES, WORKED, document
from .commands import charlstm, seen_on_a_terminal

NAMES = ("one-unit", "four-steps", "long-lag", "vectors")
ONE_UNIT, FOUR_STEPS, LONG_LAG, VECTORS = (WORKED / f"{name}.yaml" for name in NAMES)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["trace", *map(str, arguments)])


def lines(*arguments: object) -> list[str]:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def printed_object(*arguments: object) -> dict[str, Any]:
    (line,) = lines(*arguments, "--json")
    found: dict[str, Any] = json.loads(line)
    return found


def on_terminal(forks: Forks, file: Path, *, columns: int, **variables: str) -> str:
    """What the command shows on a terminal."""
    command = ["trace", str(file)]
    return seen_on_a_terminal(forks, command, file.parent, columns, TERM="xterm-256color", **variables)


@pytest.fixture(params=CELLS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with one of the cells, of two units and with everything that it can hold."""
    return write_cell(tmp_path, request.param)


def write_cell(folder: Path, cell: str) -> Path:
    path = folder / f"{cell}.yaml"
    path.write_text(dump_yaml(document(cell, readout=True)))
    return path


def test_trace_writes_each_stage_as_on_paper() -> None:
    assert lines(ONE_UNIT)[3:14] == [
        "step 1: x = 1, h = 1, c = 2",
        "             weight×h + weight×x + bias                  value",
        "forget gate  σ(2.7×1 + 1.63×1 + 1.62) = σ(5.95)         0.9974  99.7% kept",
        "c kept       0.9974×2                                   1.9948",
        "candidate    tanh(1.41×1 + 0.94×1 - 0.32) = tanh(2.03)  0.9661",
        "input gate   σ(2×1 + 1.65×1 + 0.62) = σ(4.27)           0.9862  98.6% written",
        "c written    0.9862×0.9661                              0.9528",
        "new c        1.9948 + 0.9528                            2.9476",
        "tanh c       tanh(2.9476)                               0.9945",
        "output gate  σ(4.38×1 - 0.19×1 + 0.59) = σ(4.78)        0.9917  99.2% shown",
        "new h        0.9917×0.9945                              0.9862",
    ]


def test_trace_writes_negative_and_tiny_numbers_as_a_person_would() -> None:
    text = "\n".join(lines(FOUR_STEPS))
    assert re.search(r"σ\(0.5×\(-1\) - 10×1 \+ 0.5\) = σ\(-10\) +4.54e-05  0.0% kept", text)
    assert re.search(r"readout +σ\(4×0.7355 \+ 5\) = σ\(7.9422\) +0.9996$", text)


def test_trace_inputs_take_the_place_of_the_files() -> None:
    assert [line for line in lines(FOUR_STEPS, "--inputs", "1,5") if line.startswith("step")] == [
        "step 1: x = 1, h = -1, c = 0",
        "step 2: x = 5, h = 3.45e-05, c = 0.2876",
    ]


def test_trace_target_adds_error_gradients_and_a_step_of_adam() -> None:
    without, text = lines(FOUR_STEPS), lines(FOUR_STEPS, "--target", "0.25")
    assert text[: len(without)] == without
    title, header, *weights = text[len(without) + 1 :]
    assert title == "lstm: output 0.9996, target 0.25, squared error 0.5620, learning rate 0.001"
    assert header.split() == ["weight", "now", "gradient", "a", "step", "of", "Adam", "then"]
    lesson = learn(load_example(FOUR_STEPS, target="0.25"), "lstm")
    assert [line.split()[0] for line in weights] == [*lesson.gradients]
    name, now, gradient, change, then = weights[-1].split()
    assert (name, now, change) == ("readout.bias", "5", "-0.001")
    assert float(gradient) == pytest.approx(float(lesson.gradients["readout.bias"]), rel=0.01)
    assert float(then) == pytest.approx(4.999)


def test_trace_steps_show_the_curve_and_what_all_steps_changed() -> None:
    text = lines(VECTORS, "--steps", 50)
    lesson = learn(load_example(VECTORS), "lstm", steps=50)
    begin = text.index("lstm: 50 steps of Adam")
    end = text.index("", begin)
    rows = [line.split() for line in text[begin + 2 : end]]
    assert [int(row[0]) for row in rows] == [round(k * 2.5) for k in range(21)]
    for number, output, error, *bar in rows:
        assert float(output) == pytest.approx(lesson.outputs[int(number)][0], abs=1e-4)
        assert float(error) == pytest.approx(lesson.squared_errors[int(number)], rel=0.03)
        assert len("".join(bar)) == pytest.approx(
            20 * lesson.squared_errors[int(number)] / max(lesson.squared_errors), abs=1
        )
    assert text[end + 1].endswith(f"after 50 steps {lesson.outputs[-1][0]:.4f}, squared error {float(rows[-1][2]):.2e}")
    name, now, _, change, then = text[-1].split()
    assert (name, float(then)) == ("readout.bias", pytest.approx(float(lesson.weights["readout.bias"]), rel=1e-6))
    assert float(now) + float(change) == pytest.approx(float(then), rel=1e-3)


def test_trace_writes_two_directions_and_sums_of_vectors(tmp_path: Path) -> None:
    file = tmp_path / "cell.yaml"
    file.write_text("inputs: [[1, 2, 3]]\nh: [1, 1, 1, 1, 1]\ndrawn: {cell: gru, hidden_size: 5, bidirectional: true}")
    text, found = lines(file), printed_object(file)["cells"]["gru"]["steps"]
    assert [line.split(":")[0] for line in text if "step 1" in line] == ["step 1", "backwards, step 1"]
    assert [(step["direction"], step["step"]) for step in found] == [("forwards", 1), ("backwards", 1)]
    (line,) = [line for line in text[: len(text) // 2] if line.startswith("update gate 2")]
    weights = printed_object(file)["cells"]["gru"]["weights"]
    of_h, of_x = sum(weights["update.h"][1]), sum(w * x for w, x in zip(weights["update.x"][1], (1, 2, 3), strict=True))
    first, sign, second = re.findall(r"σ\((\S+) ([+-]) (\S+) ", line)[0]
    assert (float(first), float(sign + second)) == (pytest.approx(of_h, abs=1e-4), pytest.approx(of_x, abs=1e-4))


def test_trace_compares_several_cells() -> None:
    text = lines(LONG_LAG)
    assert text[4].split() == ["step", "x", "rnn", "h", "rnn", "gradient", "lstm", "h", "lstm", "gradient"]
    assert text[5].split() == ["1", "1", "0.7616", "1.12e-16", "0.5583", "0.2574"]
    assert text[-2:] == [
        "rnn        0.8586                         1.12e-16",
        "lstm       0.4575                           0.2574",
    ]


def test_trace_object_holds_everything_that_the_table_shows(file: Path) -> None:
    """Every number of the lines is, rounded alike, one of the object, or the difference that a step of Adam makes."""
    found = printed_object(file)
    ((cell, one),) = found["cells"].items()
    now, then = flat(one["weights"]), flat(one["lesson"]["weights"])
    numbers = {abs(number) for number in [*flat(found), *(b - a for a, b in zip(now, then, strict=True))]}
    rounded = {text for number in numbers for text in every_form(number)}
    for line in lines(file)[2:]:
        after_label = re.split(r"  +|: ", line, maxsplit=1)[-1]
        for number in re.findall(r"\d[\d.]*(?:e-\d+)?%?", after_label):
            assert number in rounded, line
    assert one["steps"][-1]["stages"].keys() >= {f"{gate}_gate" for gate in GATES[cell] if gate != "candidate"}


def flat(value: Any) -> list[float]:
    """Every number in an object, in order."""
    inside = value.values() if isinstance(value, dict) else value
    if isinstance(inside, str | None):
        return []
    return [inside] if isinstance(inside, int | float) else [number for item in inside for number in flat(item)]


def every_form(number: float) -> list[str]:
    text = f"{number:.4f}" if number == 0 or number >= 0.001 else f"{number:.2e}"
    return [
        text,
        text if "e" in text else text.rstrip("0").rstrip("."),
        f"{number:.4g}",
        f"{number:.7g}",
        f"{number:.1%}",
    ]


def test_trace_object_is_what_a_script_needs() -> None:
    found = printed_object(ONE_UNIT)
    assert found["source"].startswith("one unit, one input")
    assert (found["inputs"], found["target"], found["learning_rate"]) == ([[1.0]], [0.5], 0.001)
    step = found["cells"]["lstm"]["steps"][0]
    assert step["state"] == {"h": [1.0], "c": [2.0]}
    forget = step["stages"]["forget_gate"]
    assert (forget["sums"], forget["activation"]) == ([[[2.7, 1.0], [1.63, 1.0], [1.62]]], "sigmoid")
    assert forget["totals"] == [pytest.approx(5.95)]
    assert step["stages"]["new_c"]["value"] == step["new_state"]["c"]
    lag = printed_object(LONG_LAG)
    assert lag["target"] is None
    assert [len(lag["cells"][cell]["input_gradients"]) for cell in ("rnn", "lstm")] == [40, 40]
    assert lag["cells"]["rnn"]["lesson"] is None


def test_trace_lines_hold_no_control_characters(file: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd\x1b[31m.yaml"
    odd.write_text('source: "a\\x1b[31mb\\rc\\nd\\ud800"\n' + file.read_text())
    text = lines(odd, "--target", "0.5")
    assert text[1] == "a [31mb c d"
    assert all(line.isprintable() for line in text)
    assert "\x1b" not in run(odd, "--json").stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_trace_draws_tables_on_a_terminal(forks: Forks, columns: int) -> None:
    text = on_terminal(forks, ONE_UNIT, columns=columns)
    plain = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    assert "candidate     tanh(1.41×1 + 0.94×1 - 0.32) = tanh(2.03)   0.9661" in [line.rstrip() for line in plain]
    assert any(set(line) == {"─"} for line in plain)
    assert max(map(len, plain)) <= columns
    assert "\x1b[1m" in text


@pytest.mark.parametrize("columns", [30, 40])
def test_trace_writes_rows_below_one_another_where_a_table_does_not_fit(forks: Forks, columns: int) -> None:
    plain = re.sub(r"\x1b\[[\d;]*[mK]", "", on_terminal(forks, ONE_UNIT, columns=columns)).splitlines()
    assert max(map(len, plain)) <= columns
    at = plain.index("output gate")
    assert (
        "".join(line.strip() for line in plain[at + 1 : at + 4])
        .replace(" ", "")
        .startswith("σ(4.38×1-0.19×1+0.59)=σ(4.78)")
    )
    assert "value 0.9917  99.2% shown" in " ".join(plain[at + 1 : at + 4])


def test_trace_obeys_no_color(forks: Forks) -> None:
    assert not re.search(r"\x1b\[[\d;]*(3\d|4\d|9\d)", on_terminal(forks, ONE_UNIT, columns=80, NO_COLOR="1"))


@pytest.mark.parametrize("source", [ONE_UNIT, LONG_LAG, VECTORS, "peephole-full"])
def test_trace_draws_pictures(source: Path | str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    png = tmp_path / "picture"
    if isinstance(source, str):
        source = write_cell(tmp_path, source)
    options = ["--steps", 3] if source == VECTORS else []
    assert lines(source, *options, "--png", png) == lines(source, *options)
    assert png.read_bytes().startswith(b"\x89PNG")


def test_trace_draws_no_curve_where_there_is_nothing_to_learn() -> None:
    told = charlstm("trace", LONG_LAG, "--inputs", 0, "--target", 0, "--steps", 5).stdout
    assert "5 steps of Adam" in told
    assert "█" not in told
