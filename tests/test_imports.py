"""Imports go down, never along a row; what samples and shows never loads torch."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "charlstm"
ROWS = """
cli
api
training analysis
evaluation inference runs
networks machine text teaching
weights
settings
files
cells errors environment
"""
LEVEL = {part: level for level, row in enumerate(ROWS.split("\n")) for part in row.split()}
WITH_TORCH = {"networks", "machine", "evaluation", "training"}
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
PARTS = {name: name.partition(".")[0] for name in MODULES if not name.startswith("__")}


def imports(module: str) -> Iterator[str]:
    """Every module that a module imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def python(program: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PACKAGE.parent)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def imported_parts(part: str) -> set[str]:
    """The parts of charlstm that the modules of a part import."""
    names = [name.split(".") for module in PARTS if PARTS[module] == part for name in imports(module)]
    return {rest[0] for package, *rest in names if package == "charlstm"} - {part, "__version__"}


@pytest.mark.parametrize("part", sorted(set(PARTS.values()), key=LEVEL.__getitem__))
def test_imports_go_down(part: str, tell: Callable[[str], None]) -> None:
    found = sorted(imported_parts(part), key=LEVEL.__getitem__)
    assert all(LEVEL[other] > LEVEL[part] for other in found), found
    tell(f"imports {' '.join(found) or 'nothing of charlstm'}")


def test_imports_of_what_prints_and_of_pickle() -> None:
    for module, part in PARTS.items():
        found = {name.partition(".")[0] for name in imports(module)}
        assert not found & {"pickle", "marshal", "shelve"}, module
        assert part == "cli" or not found & {"typer", "rich", "tqdm"}, module
        assert part == "environment" or not {"os.environ", "os.getenv"} & set(imports(module)), module
        assert part == "environment" or "os.environ" not in MODULES[module].read_text(), module


@pytest.mark.parametrize("with_torch", [False, True])
def test_importing_does_no_work(with_torch: bool) -> None:
    """No module prints, starts a thread or changes torch when it is imported; most do not load torch."""
    names = [name for name, part in PARTS.items() if with_torch == (part in WITH_TORCH)]
    names = [f"charlstm.{name.removesuffix('.__init__')}" for name in names if not name.startswith("cli")]
    program = (
        "import importlib, sys, threading\n"
        "facts = lambda: (torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state().sum().item(),\n"
        "                 threading.active_count())\n"
        f"if {with_torch}: import torch; before = facts()\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        f"assert facts() == before if {with_torch} else 'torch' not in sys.modules"
    )
    assert python(program, *names) == ""
