"""`charlstm trace`: what it prints on a terminal and in a pipe, its object, its picture, and its user errors."""

import json
import re
import subprocess
import sys
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
from .commands import seen_on_a_terminal

ONE_UNIT, FOUR_STEPS, LONG_LAG = (WORKED / f"{name}.yaml" for name in ("one-unit", "four-steps", "long-lag"))


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
    path = tmp_path / f"{request.param}.yaml"
    path.write_text(dump_yaml(document(request.param, readout=True)))
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


def test_trace_obeys_no_color(forks: Forks) -> None:
    assert not re.search(r"\x1b\[[\d;]*(3\d|4\d|9\d)", on_terminal(forks, ONE_UNIT, columns=80, NO_COLOR="1"))


def test_trace_loads_torch_only_for_gradients() -> None:
    program = """if True:
        import sys
        from pathlib import Path
        from charlstm.cli.trace import trace_command
        trace_command(Path(sys.argv[1]))
        assert "torch" not in sys.modules
        trace_command(Path(sys.argv[1]), target="1", as_json=True)
        assert "torch" in sys.modules
    """
    subprocess.run([sys.executable, "-c", program, FOUR_STEPS], check=True, stdout=subprocess.DEVNULL)


def test_trace_draws_pictures(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for source in (file, ONE_UNIT, LONG_LAG):
        png = tmp_path / "picture"
        assert lines(source, "--png", png) == lines(source)
        assert png.read_bytes().startswith(b"\x89PNG")


def test_trace_without_matplotlib_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(ONE_UNIT, "--png", tmp_path / "a.png")
    sentence = "charlstm: --png needs matplotlib, which is not installed: pip install 'charlstm[plot]'\n"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", sentence)


def test_trace_user_errors_end_with_one_sentence_and_code_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("inputs: [1]\nrnn:\n  candidate: {h: 1, x: y}\n")
    for arguments in ([bad], [ONE_UNIT, "--inputs", "a"], [ONE_UNIT, "--target", "[["], [tmp_path / "none.yaml"]):
        result = run(*arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert result.stderr.startswith("charlstm: ")
    assert ':3: rnn.candidate.x is "y", but must be a number' in run(bad).stderr
