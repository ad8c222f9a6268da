"""Imports: the plan of the house, as a table. Nobody imports upward, and what samples never loads torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "charlstm"

# What each room may import from charlstm. A new room is entered here, and in a row of LEVELS, before it is built.
MAY_IMPORT = {
    "errors": "",
    "environment": "",
    "cells": "",
    "follow": "",
    "workers": "",
    "yaml12": "errors",
    "sources": "errors",
    "vocab": "errors",
    "curves": "errors",
    "config": "errors yaml12",
    "corpus": "errors vocab sources durable",
    "lanes": "errors corpus",
    "recurrent": "config cells",
    "model": "config recurrent",
    "runtime": "errors config workers",
    "schedule": "errors config",
    "evaluation": "errors recurrent model lanes workers",
    "trainer": "config errors recurrent model lanes schedule evaluation runtime",
    "engine": "errors config cells",
    "quick": "config cells engine",
    "pace": "config",
    "durable": "errors",
    "runs": "errors config vocab durable",
    "checkpoints": "errors durable engine runs",
    "sampling": "errors vocab cells engine",
    "filling": "cells engine sampling",
    "gates": "errors vocab engine",
    "gates_page": "follow gates vocab",
    "pictures": "curves gates",
    "worked": "cells",
    "worked_file": "errors yaml12 cells worked",
    "paper": "cells worked",
    "paper_pictures": "cells worked paper",
}

# Top to bottom; nobody imports upward or along a row.
LEVELS = [
    "cli",
    "checkpoints filling gates_page pictures paper_pictures",
    "trainer runs sampling gates curves follow worked_file paper",
    "quick pace",
    "evaluation schedule engine worked",
    "model lanes runtime",
    "recurrent corpus",
    "config vocab cells sources durable workers",
    "yaml12",
    "errors environment",
]
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms.split()}

WITH_TORCH = {"workers", "recurrent", "model", "runtime", "evaluation", "trainer"}
TORCH_IN_A_FUNCTION = {"worked"}  # hands torch to the equations when it is asked for a gradient


class Import(NamedTuple):
    """One import statement: the module it needs, and whether it runs when its own module is imported."""

    module: str
    at_top: bool


def module_name(path: Path) -> str:
    parts = ("charlstm", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ROOMS = sorted(name.split(".")[1] for name in MODULES if name.count(".") == 1 and not name.startswith("charlstm.cli"))
ROOMS.remove("__main__")
COMMANDS = sorted(name for name in MODULES if name.startswith("charlstm.cli"))


@lru_cache
def imports_of(module: str) -> tuple[Import, ...]:
    return tuple(_imports(ast.parse(MODULES[module].read_text()), at_top=True))


def _imports(node: ast.AST, *, at_top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, at_top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield Import(inner if inner in MODULES else str(child.module), at_top)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (found._replace(at_top=False) for found in _imports(child, at_top=False))
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, at_top=at_top and not is_function)


def rooms_of(module: str) -> set[str]:
    """The rooms of charlstm that a module imports, wherever it does."""
    names = (found.module.split(".") for found in imports_of(module))
    return {name[1] for name in names if name[0] == "charlstm" and len(name) > 1}


def loaded_with(module: str) -> set[str]:
    """Every module that importing this one loads, as far as charlstm's own files say."""
    loaded, waiting = set[str](), [module]
    while waiting:
        name = waiting.pop()
        if name in loaded:
            continue
        loaded.add(name)
        if name in MODULES:
            waiting += [found.module for found in imports_of(name) if found.at_top]
            waiting += [name.rpartition(".")[0]] if "." in name else []
    return loaded


def loads_torch(module: str) -> bool:
    return any(name.partition(".")[0] == "torch" for name in loaded_with(module))


# The table


def test_imports_every_room_is_in_the_plan() -> None:
    assert sorted(MAY_IMPORT) == ROOMS
    assert sorted(LEVEL_OF) == sorted([*MAY_IMPORT, "cli"])


@pytest.mark.parametrize("room", ROOMS)
def test_imports_of_a_room_are_those_it_may_have(room: str) -> None:
    assert rooms_of(f"charlstm.{room}") <= set(MAY_IMPORT[room].split())


def test_imports_the_plan_never_points_upward_or_along_a_row() -> None:
    for room, allowed in MAY_IMPORT.items():
        for other in allowed.split():
            assert LEVEL_OF[other] > LEVEL_OF[room], f"{room} imports {other}"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_of_torch_are_where_training_is(room: str) -> None:
    module = f"charlstm.{room}"
    named = any(found.module.split(".")[0] == "torch" for found in imports_of(module))
    assert named == (room in WITH_TORCH | TORCH_IN_A_FUNCTION)
    assert loads_torch(module) == (room in WITH_TORCH)


@pytest.mark.parametrize("module", ["charlstm", "charlstm.cli", "charlstm.__main__"])
def test_imports_of_the_program_do_not_load_torch(module: str) -> None:
    loaded = loaded_with(module)
    assert not loads_torch(module)
    assert not {f"charlstm.{room}" for room in WITH_TORCH} & loaded


@pytest.mark.parametrize("module", [name for name in COMMANDS if name not in ("charlstm.cli", "charlstm.cli.eval")])
def test_imports_of_no_command_but_train_and_eval_name_what_trains(module: str) -> None:
    """A command may import anything inside its functions, and what reads, samples and shows needs nothing of torch."""
    if module.rpartition(".")[2] not in ("train", "report", "record"):
        assert not rooms_of(module) & WITH_TORCH


def test_imports_rooms_do_not_print_and_do_not_import_the_commands() -> None:
    for room in ROOMS:
        tree = ast.parse(MODULES[f"charlstm.{room}"].read_text())
        assert "cli" not in rooms_of(f"charlstm.{room}")
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not [call for call in calls if isinstance(call, ast.Name) and call.id in ("print", "input")], room
        assert not {"typer", "rich", "tqdm"} & {found.module.split(".")[0] for found in imports_of(f"charlstm.{room}")}


def test_imports_pickle_nowhere() -> None:
    for module in MODULES:
        found = {one.module.split(".")[0] for one in imports_of(module)}
        assert not found & {"pickle", "marshal", "shelve", "dill", "joblib"}, module
        assert "torch.load" not in MODULES[module].read_text(), module


def test_imports_environment_is_the_only_reader_of_environment_variables() -> None:
    readers = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
    }
    assert readers == {"charlstm.environment"}


# What really happens


def python(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["sample", "--help"], ["config", "schema"]])
def test_imports_help_leaves_torch_out(arguments: list[str]) -> None:
    program = (
        "import sys; from charlstm.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert python(program, *arguments)


NO_WORK = """
import builtins, importlib, os, sys, threading

rooms, read = sys.argv[2:], []


class Watched(type(os.environ)):
    def __getitem__(self, name):
        caller = sys._getframe(1)
        while caller and os.path.dirname(caller.f_code.co_filename).rstrip(os.sep) not in folders:
            if "importlib" in caller.f_code.co_filename or os.sep + "site-packages" in caller.f_code.co_filename:
                return super().__getitem__(name)  # another package reads it
            caller = caller.f_back
        if caller:
            read.append((caller.f_code.co_filename, name))
        return super().__getitem__(name)


folders = {sys.argv[1], os.path.join(sys.argv[1], "cli")}
os.environ.__class__ = Watched
if "charlstm.trainer" in rooms:
    import torch
threads = threading.active_count()
for room in rooms:
    importlib.import_module(room)
assert threading.active_count() == threads, "a thread was started"
assert not read, read
assert "torch" not in sys.modules or not sys.modules["torch"].cuda.is_initialized()
assert ("torch" in sys.modules) == ("charlstm.trainer" in rooms)
"""


@pytest.mark.parametrize("with_torch", [False, True])
def test_imports_do_no_work(with_torch: bool) -> None:
    """Importing every module prints nothing, reads no environment variable, starts no thread, and probes no device."""
    quiet = [name for name in MODULES if name != "charlstm.__main__" and loads_torch(name) == with_torch]
    assert len(quiet) > 5
    assert python(NO_WORK, str(PACKAGE), *quiet) == ""


def test_imports_leave_torch_as_it_was() -> None:
    program = (
        "import sys, torch; before = torch.get_num_threads(), torch.get_rng_state().sum(), torch.get_default_dtype()\n"
        "import importlib; [importlib.import_module(name) for name in sys.argv[1:]]\n"
        "assert before == (torch.get_num_threads(), torch.get_rng_state().sum(), torch.get_default_dtype())\n"
        "assert torch.tensor(1e-40) * 0.5 != 0  # denormal numbers are still numbers"
    )
    assert python(program, *(f"charlstm.{room}" for room in sorted(WITH_TORCH))) == ""
