"""Wrong cells, scans, cores and engines: each differs from the right one by one edit, and must break a law."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import NamedTuple

import pytest
import torch

from charlstm import cells
from charlstm.inference import engine
from charlstm.networks import cores

from .laws import obeys
from .laws.subjects import LAWS, SUBJECTS, Law, Subject
from .mutants import Mutant, mutants

torch.set_num_threads(1)


class Program(NamedTuple):
    """A function that the laws speak of, and the cells by which it is held to them."""

    module: ModuleType
    function: str
    held_by: tuple[str, ...]


PROGRAMS = [
    Program(cores, "unrolled_scan", ("lstm", "peephole")),
    Program(cores, "builtin_scan", ("lstm builtin", "gru builtin")),
    Program(cores, "Core.forward", ("lstm", "rnn")),
    Program(cores, "Core.zero_state", ("lstm",)),
    Program(cores, "Bidirectional.forward", ("lstm",)),
    Program(cells, "sigmoid", ("lstm",)),
    Program(cells, "_blocks", ("lstm", "peephole-full")),
    *(Program(cells, cell.step.__name__, (name,)) for name, cell in cells.CELLS.items()),
    Program(engine, "Engine.__init__", ("peephole",)),
    Program(engine, "Engine.zero_state", ("peephole",)),
    Program(engine, "Engine.step", ("peephole",)),
    Program(engine, "Engine.step_gates", ("peephole",)),
    Program(engine, "Engine.read_layers", ("peephole",)),
]

EQUIVALENT = {  # a function's edits that change nothing, each for a reason
    "Core.forward": {
        "weights = {name: weight.to(x.dtype) for name, weight in weights.items()} → pass": "here all are float64",
    },
    "_blocks": {"x → x + x.mean(0)": "of this sum only the length is used"},
    "Engine.__init__": dict.fromkeys(("1 → 0", "1 → 2"), "of these shapes only the names are used"),
    "Engine.read_layers": {
        "1 → 2": "to NumPy, any negative size is the one that is left",
        "hidden → hidden + hidden.mean(0)": "of this sum only the length is used",
    },
}
LAST = "gradients are the numeric ones"  # slow: asked only of the mutants that obey all other laws
SAMPLE = 40  # of so many mutants the quick tests try one


def subject_of(mutant: Mutant, program: Program, name: str) -> Subject:
    """The cell of this name as the edited program has it."""
    right, edited = SUBJECTS[name], mutant.namespace(program.module)
    if program.module is cells:
        cell = edited["CELLS"][right.name]
        return replace(right, cell=cell, scan=cores.unrolled_scan(cell))
    if program.module is engine:
        return replace(right, engine=edited["Engine"])
    scan = edited["unrolled_scan"](right.cell) if right.by_hand else edited["builtin_scan"](right.name)
    return replace(right, scan=scan, core=edited["Core"], bidirectional=edited["Bidirectional"])


def refuted_by(program: Program, mutant: Mutant) -> tuple[str, bool | None] | None:
    """The first law that the mutant does not obey, and what `obeys` says of it; None if it obeys all."""
    for name, law in sorted(LAWS.items(), key=lambda item: item[0] == LAST):
        for cell in program.held_by:
            obeyed = held_to(law, program, mutant, cell)
            if not obeyed:
                return name, obeyed
    return None


def held_to(law: Law, program: Program, mutant: Mutant, cell: str) -> bool | None:
    """As `obeys`; a law that does not speak of the cell is obeyed."""
    try:
        subject = subject_of(mutant, program, cell)
    except Exception:
        return None  # it cannot even be imported
    return not law.concerns(subject) or obeys(subject, law)


def edits_of(program: Program) -> list[Mutant]:
    return mutants(program.module, program.function)[1:]


def test_mutations_a_module_that_no_edit_has_changed_obeys_the_laws() -> None:
    for program in {program.module: program for program in PROGRAMS}.values():
        itself = mutants(program.module, program.function)[0]
        for name, law in LAWS.items():
            assert name == LAST or all(held_to(law, program, itself, cell) for cell in program.held_by), name


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.function)
def test_mutations_some_wrong_programs_break_a_law(program: Program) -> None:
    allowed = EQUIVALENT.get(program.function, {})
    for mutant in edits_of(program)[::SAMPLE]:
        assert refuted_by(program, mutant) is not None or str(mutant.edit) in allowed, str(mutant)


@pytest.mark.long
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.function)
def test_mutations_every_wrong_program_breaks_a_law(program: Program, tell: Callable[[str], None]) -> None:
    found = [(str(mutant.edit), refuted_by(program, mutant)) for mutant in edits_of(program)]
    survivors = [edit for edit, refuted in found if refuted is None]
    assert set(survivors) == set(EQUIVALENT.get(program.function, {}))
    wrong = sum(refuted is not None and refuted[1] is False for _, refuted in found)
    stopped = len(found) - wrong - len(survivors)
    tell(f"{len(found)} mutants: {wrong} give wrong results, {stopped} cannot run, {len(survivors)} are equivalent")


@pytest.mark.long
@pytest.mark.parametrize("name", LAWS)
def test_mutations_every_law_is_broken_by_one(name: str) -> None:
    everyone = (
        (program, mutant, cell) for program in PROGRAMS for cell in program.held_by for mutant in edits_of(program)
    )
    assert any(held_to(LAWS[name], *one) is False for one in everyone)
