"""Fault seeding: each promise is broken on purpose in a copy of the program, and a test must notice.

A fault is seeded through the syntax tree of one function, which is found by its name.
"""

import ast
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ..syntax import Slot, below, call_name, find, mentions

ROOT = Path(__file__).parents[2]

Seeding = Callable[[ast.FunctionDef], None]


def body(source: str) -> Seeding:
    """The function does this instead."""

    (wrapper,) = ast.parse(f"def wrapper():\n    {source}").body
    assert isinstance(wrapper, ast.FunctionDef)
    return lambda function: setattr(function, "body", wrapper.body)


def without(name: str) -> Seeding:
    """What calls this, or is assigned to this, is left out."""

    def left_out(node: ast.AST) -> bool:
        match node:
            case ast.Expr(value=ast.Call() as call):
                return call_name(call) == name
            case ast.Assign(targets=[target]):
                return name in mentions(target)
        return False

    return lambda function: _put(function, left_out, ast.Pass())


def never(name: str) -> Seeding:
    """No comparison that mentions this is true."""
    return lambda function: _put(
        function, lambda node: isinstance(node, ast.Compare) and name in mentions(node), ast.Constant(value=False)
    )


def assigning(name: str, source: str) -> Seeding:
    """What is assigned to a name or attribute is this."""

    def seed(function: ast.FunctionDef) -> None:
        for slot in below(function):
            match slot.get():
                case ast.Assign(targets=[ast.Name(id=target) | ast.Attribute(attr=target)]) as assign if target == name:
                    assign.value = ast.parse(source, mode="eval").body

    return seed


def reading(name: str, source: str) -> Seeding:
    """Where the function reads a name it finds this."""

    def reads(node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id == name

    return lambda function: _put(function, reads, ast.parse(source, mode="eval").body)


def earlier(call: str, *, than: str) -> Seeding:
    """The statement that calls one function comes before the first that calls another."""

    def seed(function: ast.FunctionDef) -> None:
        for node in ast.walk(function):
            statements = getattr(node, "body", [])
            calls = [[call_name(one) for one in ast.walk(s) if isinstance(one, ast.Call)] for s in statements]
            places = [[k for k, names in enumerate(calls) if wanted in names] for wanted in (call, than)]
            if all(places) and len(statements) > 1:
                statements.insert(places[1][0], statements.pop(places[0][0]))

    return seed


def loops_not(function: ast.FunctionDef) -> None:
    """No loop is entered."""
    for node in ast.walk(function):
        if isinstance(node, ast.For):
            node.iter = ast.Tuple(elts=[], ctx=ast.Load())


def raises_always(function: ast.FunctionDef) -> None:
    """What is raised again only under a condition is always raised."""
    for node in ast.walk(function):
        if isinstance(node, ast.If) and any(isinstance(one, ast.Raise) and one.exc is None for one in node.body):
            node.test = ast.Constant(value=True)


def smaller_sets(function: ast.FunctionDef) -> None:
    """The last element of a set is left out."""
    for node in ast.walk(function):
        if isinstance(node, ast.Set):
            node.elts.pop()


def errors_unseen(function: ast.FunctionDef) -> None:
    """OSError is suppressed."""
    (guard,) = ast.parse("with __import__('contextlib').suppress(OSError): pass").body
    assert isinstance(guard, ast.With)
    guard.body, function.body = function.body, [guard]


def _put(function: ast.FunctionDef, wanted: Callable[[ast.AST], bool], node: ast.stmt | ast.expr) -> None:
    slots: list[Slot] = [slot for slot in below(function) if wanted(slot.get())]
    for slot in slots:
        slot.put(node)


class Fault(NamedTuple):
    """How a function of a file is made wrong, and the test that must notice."""

    file: str
    function: str
    seed: Seeding
    noticed_by: str


FLIPS = "test_damage.py::test_damage_of_one_bit_is_never_silent"
SAVES = "test_faults.py::test_faults_at_every_call_of_a_save_harm_nothing"
KILLS = "test_kills.py::test_kills_at_every_call_and_in_the_middle_of_every_write"
RESUMES = "test_resumes.py::test_resumes_at_every_step_end_with_the_same_bits"
OTHERS = "test_resumes.py::test_resumes_of_other_settings_end_with_the_same_bits"
FORGERIES = "test_forgeries.py::test_forgeries_of_arrays_are_refused"
KINDS = "test_damage.py::test_damage_of_another_kind_is_never_silent"
FALLBACK = "test_damage.py::test_damage_of_the_latest_is_fallen_back_from"
GIGABYTE = "test_damage.py::test_damage_of_a_gigabyte_is_refused_by_the_commands_in_bounded_memory"
ONCE = "test_faults.py::test_faults_in_a_training_run_are_made_up_for"
GROWING = "test_bad_texts.py::test_bad_texts_that_grow_while_they_are_read_are_refused"
TRAINER = "../training/test_trainer.py"
SHARED = "test_shared_places.py::test_shared"
HOSTILE = "test_hostile_runs.py::test_hostile_text_in_a_message_moves_no_terminal"
STRANGERS = "test_hostile_runs.py::test_hostile_sources_are_not_touched"
LEFT_OVERS = "../runs/test_writing.py::test_runs_writer_clears_what_a_killed_one_left"

FILES, FOLDER, WRITING, CHECKPOINTS = "files.py", "runs/folder.py", "runs/writing.py", "runs/checkpoints.py"
NO_BEST = "msgspec.structs.replace(checkpoint.progress, best_loss=None, best_step=None)"
SEEDED = {
    "checksums not compared": Fault(CHECKPOINTS, "_verified", never("hexdigest"), FLIPS),
    "pointers not tied to checkpoints": Fault(CHECKPOINTS, "_pointer_checksum", body("return '0' * 64"), KINDS),
    "settings without a checksum": Fault(FOLDER, "_checksum_line", body(r"return b'# sha256\n'"), FLIPS),
    "folders written in their place": Fault(FILES, "write_folder", assigning("unfinished", "final"), KILLS),
    "files written in their place": Fault(FILES, "atomic_file", assigning("unfinished", "path"), SAVES),
    "old ones removed before the new pointer": Fault(
        CHECKPOINTS, "save_checkpoint", earlier("_remove_old", than="_point"), SAVES
    ),
    "the best rotated out": Fault(CHECKPOINTS, "_remove_old", smaller_sets, SAVES),
    "left-overs kept": Fault(WRITING, "only_writer", without("remove"), LEFT_OVERS),
    "metrics not cut back": Fault("training/session.py", "resume_session", without("extend"), "test_kills.py"),
    "a failed save not retried": Fault("training/recorder.py", "Recorder.save", raises_always, ONCE),
    "a failed write not noticed": Fault(FILES, "write_folder", errors_unseen, SAVES),
    "Adam's moments forgotten": Fault("training/trainer.py", "Trainer.restore", without("kept_of"), RESUMES),
    "the recurrent state forgotten": Fault(
        "training/trainer.py", "Trainer.restore", assigning("state", "None"), RESUMES
    ),
    "dropout not a function of the step": Fault(
        "training/gradients.py", "_random_numbers", reading("step", "0"), TRAINER
    ),
    "the best so far forgotten": Fault(
        "training/trainer.py",
        "Trainer.restore",
        assigning("progress", NO_BEST),
        OTHERS,
    ),
    "training arrays not checked": Fault("training/trainer.py", "Trainer._check_training", body("pass"), FORGERIES),
    "files of any length read": Fault(FILES, "read_bounded", never("max_bytes"), GIGABYTE),
    "no way back to an older checkpoint": Fault(CHECKPOINTS, "read_newest_undamaged", loops_not, FALLBACK),
    "a text not read a second time": Fault("text/corpus.py", "prepare_corpus", never("hexdigest"), GROWING),
    "a folder not known again": Fault(
        WRITING, "refuse_replaced", body("pass"), f"{SHARED}_folder_that_another_run_took_is_not_written_into"
    ),
    "a moved pointer not read again": Fault(
        CHECKPOINTS,
        "read_checkpoint",
        body("return _read_pointed(run, which, model_only=model_only)"),
        f"{SHARED}_best_that_moves_on_before_its_files_are_read_is_read_again",
    ),
    "control characters printed": Fault("cli/terminal.py", "printable", body("return text"), HOSTILE),
    "sources of strangers read": Fault("runs/texts.py", "own_corpus", never("harmless"), STRANGERS),
    "files of strangers believed": Fault(
        "text/stored_ids.py", "open_own", never("st_uid"), f"{SHARED}_cache_gives_the_ids_of_this_user_alone"
    ),
    "changes under a batch not noticed": Fault(
        "text/stored_ids.py",
        "refuse_changed",
        body("pass"),
        f"{SHARED}_ids_that_change_between_two_batches_are_noticed",
    ),
}


def seeded(fault: Fault, package: Path) -> tuple[str, str]:
    """A file as its syntax tree says it, before and after."""
    tree = ast.parse((package / fault.file).read_text())
    before = ast.unparse(tree)
    fault.seed(find(tree, fault.function))
    return before, ast.unparse(ast.fix_missing_locations(tree))


@pytest.mark.parametrize("name", SEEDED)
def test_seeded_faults_can_be_seeded(name: str) -> None:
    before, after = seeded(SEEDED[name], ROOT / "charlstm")
    assert after != before
    compile(after, name, "exec")
    test, _, function = SEEDED[name].noticed_by.partition("::")
    assert f"def {function}" in (Path(__file__).parent / test).read_text()


@pytest.mark.long
@pytest.mark.parametrize("name", SEEDED)
def test_seeded_faults_are_noticed(name: str, tmp_path: Path) -> None:
    fault = SEEDED[name]
    for part in ("charlstm", "tests", "configs", "data", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    (tmp_path / "charlstm" / fault.file).write_text(seeded(fault, tmp_path / "charlstm")[1])
    end = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", f"tests/reliability/{fault.noticed_by}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    # red, or killed by what was let in: torch's fused Adam writes beyond moments that are too short, which may also
    # abort a process that has told of its red test
    told = end.returncode == -signal.SIGABRT and "\n1 failed" in end.stdout
    assert told or end.returncode in (pytest.ExitCode.TESTS_FAILED, -signal.SIGSEGV), end.stdout[-2000:]
