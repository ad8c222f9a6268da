"""The README tells the truth: its settings are the settings, its tree is the tree, its exit codes are the errors'."""

import re
from pathlib import Path

from charlstm import errors
from charlstm.settings import settings_reference

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_reference_is_the_one_that_the_settings_generate() -> None:
    between = re.search(r"<!-- reference -->\n(.*)<!-- /reference -->", README, re.DOTALL)
    assert between is not None
    assert between[1] == settings_reference()


def test_readme_tree_names_every_module() -> None:
    tree = README.partition("## The files")[2]
    for path in (ROOT / "charlstm").rglob("*.py"):
        if not path.name.startswith("__"):
            assert re.search(rf"\b{path.name}\b", tree), path.name


def test_readme_tree_names_no_module_that_is_not_there() -> None:
    tree = README.partition("## The files")[2].partition("configs/")[0]
    there = {path.name for path in (ROOT / "charlstm").rglob("*.py")}
    assert set(re.findall(r"\b\w+\.py\b", tree)) <= there


def test_readme_exit_codes_are_those_of_the_errors() -> None:
    told = {int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for code in cell.split(",")}
    raised = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert told == raised | {0, errors.BROKEN_PIPE_EXIT_CODE, 130, 143, 129, 138}


def test_readme_has_no_unfinished_places() -> None:
    assert "@@" not in README
