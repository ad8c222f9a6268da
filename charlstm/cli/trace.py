"""`charlstm trace`: a small cell worked by hand, step by step. Loads torch only for gradients."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm.cli.output import plotting, saving
from charlstm.cli.terminal import report_errors, write_line
from charlstm.cli.waiting import working
from charlstm.errors import SettingsError

if TYPE_CHECKING:
    from charlstm.cells import Array
    from charlstm.teaching import Example, Lesson, Work


@report_errors
def trace_command(
    file: Annotated[Path, typer.Argument(metavar="CELL.yaml", help="A worked example, as in configs/worked/.")],
    inputs: Annotated[
        str | None, typer.Option("--inputs", metavar="X,…", help="Instead of the file's, as in 1,5,7,4.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", metavar="Y", help="What the last output should be: show the error, its gradients, an Adam step."
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            "--steps", metavar="N", min=1, max=100_000, help="Steps of Adam towards the target; shows a curve."
        ),
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, unrounded, as one object.")] = False,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw a picture as well.")] = None,
) -> None:
    """Work a small cell by hand: what each gate sees and does at every step.

    Several cells in one file are compared: the gradient of the last output by each input. The picture shows the cell
    with its numbers for one step, gates and state over several, the curve with --steps.
    """
    from charlstm.cli import trace_tables
    from charlstm.cli.tables import print_tables
    from charlstm.settings import plain
    from charlstm.teaching import input_gradients, learn, load_example, work_out

    example = load_example(file, inputs=inputs, target=target)
    if steps > 1 and example.target is None:
        raise SettingsError("--steps needs something to learn: give --target, or a target in the file")
    works = {cell: work_out(example, cell) for cell in example.cells}
    with working("working out gradients"):
        gradients = {cell: input_gradients(example, cell) for cell in works} if len(works) > 1 else {}
        lessons = {cell: learn(example, cell, steps=steps) for cell in works} if example.target is not None else {}
    size = f"{_count(len(example.state['h']), 'unit')}, {_count(len(example.inputs), 'step')}"
    title = f"{plain(file.name)}: {' and '.join(works)}, {size}"
    if png is not None:
        plotting("matplotlib", option="--png")
        from charlstm.teaching import cell_picture, pictures

        if steps > 1:
            figure = pictures.lesson_picture(lessons, example.target, title=title)
        elif gradients:
            figure = pictures.comparison_picture(works, gradients, title=title)
        elif len(example.inputs) == 1:
            figure = cell_picture.cell_picture(*next(iter(works.items())), title=title)
        else:
            figure = pictures.work_picture(*works.values(), title=title)
        with saving(png, option="--png") as picture:
            figure.savefig(picture, format="png", dpi=130)
    if as_json:
        write_line(json.dumps(_as_json(example, works, gradients, lessons), default=lambda array: array.tolist()))
        return
    if gradients:
        tables = [*trace_tables.comparison_tables(works, gradients)]
    else:
        ((cell, work),) = works.items()
        tables = [*trace_tables.work_tables(work, example.cells[cell])]
    tables += [table for cell in lessons for table in trace_tables.lesson_tables(example, cell, lessons[cell])]
    print_tables([title, *filter(None, [example.source])], tables)


def _as_json(
    example: "Example",
    works: "Mapping[str, Work]",
    gradients: "Mapping[str, Array]",
    lessons: "Mapping[str, Lesson]",
) -> dict[str, Any]:
    """Everything that the tables show, unrounded; an array is a list with one number a unit."""
    cells = {}
    for cell, work in works.items():
        steps = [
            {
                "direction": "backwards" if step.direction else "forwards",
                "step": step.number,
                "x": step.x,
                "state": step.state,
                "stages": {stage.name: {**stage._asdict(), "totals": stage.totals} for stage in stages},
                "new_state": step.new_state,
            }
            for step, stages in zip(work.steps, work.stages, strict=True)
        ]
        cells[cell] = {
            "weights": example.cells[cell],
            "steps": steps,
            "output": work.output,
            "input_gradients": gradients.get(cell),
            "lesson": lessons[cell]._asdict() if cell in lessons else None,
        }
    shared = {"source": example.source, "inputs": example.inputs, "target": example.target}
    return {**shared, "learning_rate": example.learning_rate, "cells": cells}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
