"""Pictures of worked examples hold the numbers of the work."""

from pathlib import Path

import numpy as np
import pytest

from charlstm.cells import CELLS
from charlstm.teaching import learn, load_example, short, work_out

from .test_worked_example import document, loaded

pytest.importorskip("matplotlib")

from charlstm.teaching.cell_picture import cell_picture
from charlstm.teaching.pictures import lesson_picture, work_picture

WORKED = Path(__file__).parents[2] / "configs" / "worked"


@pytest.mark.parametrize("cell", CELLS)
def test_picture_of_a_cell_shows_every_number_of_its_step(cell: str, tmp_path: Path) -> None:
    content = document(cell, units=1, input_size=1, readout=True) | {"inputs": [0.7]}
    work = work_out(loaded(content, tmp_path), cell)
    figure = cell_picture(cell, work, title="a $title$")
    (axes,) = figure.axes
    written = [text.get_text() for text in axes.texts]
    for stage in work.stages[0]:
        number = short(stage.value[0])
        assert number in written or f"{stage.name.replace('_', ' ')} = {number}" in written, stage.name
    for letter, value in {"x": work.steps[0].x, **work.steps[0].state}.items():
        assert f"{letter} = {short(value[0])}" in written
    dashed = [patch for patch in axes.patches if patch.get_linestyle() not in ("-", "solid")]
    assert len(dashed) == (3 if cell.startswith("peephole") else 0)


def test_picture_of_two_directions_reads_each_in_its_order(tmp_path: Path) -> None:
    text = "inputs: [1, 2, 3]\ndrawn: {cell: gru, hidden_size: 1, bidirectional: true}"
    work = work_out(loaded(text, tmp_path), "gru")
    _, state = work_picture(work, title="").axes
    ahead, back = (line for line in state.lines if line.get_label().startswith("h"))
    for line, places, direction in ((ahead, [0, 1, 2, 3], ""), (back, [4, 3, 2, 1], "backwards")):
        assert list(line.get_xdata()) == places
        assert direction in line.get_label()
        of_direction = [step for step in work.steps if bool(step.direction) == bool(direction)]
        assert list(line.get_ydata()) == [0.0, *(step.new_state["h"][0] for step in of_direction)]


def test_picture_of_a_large_cell_shows_the_first_units(tmp_path: Path) -> None:
    text = "inputs: [1]\ndrawn: {cell: lstm, hidden_size: 9, bidirectional: true}"
    work = work_out(loaded(text, tmp_path), "lstm")
    ahead, back = cell_picture("lstm", work, title="").axes
    assert back.get_title(loc="left") == "backwards, step 1"
    new_h = ", ".join(short(value) for value in work.steps[0].new_state["h"][:3])
    assert f"new h = [{new_h}, …]" in [text.get_text() for text in ahead.texts]


def test_picture_of_a_lesson_draws_output_and_error_of_every_step() -> None:
    example = load_example(WORKED / "one-unit.yaml")
    lesson = learn(example, "lstm", steps=7)
    output, error = lesson_picture({"lstm": lesson}, example.target, title="a $title$").axes
    np.testing.assert_array_equal(output.lines[0].get_ydata(), np.ravel(lesson.outputs))
    np.testing.assert_array_equal(error.lines[0].get_ydata(), lesson.squared_errors)
    assert error.get_yscale() == "log"
