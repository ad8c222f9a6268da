"""The documentation tells the truth: settings, file tree, exit codes and links are those of the program."""

import re
from pathlib import Path

import pytest

from charlstm import errors
from charlstm.settings import settings_reference

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CHANGELOG.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_settings_page_is_the_one_that_the_schema_generates() -> None:
    between = re.search(r"<!-- reference -->\n(.*)<!-- /reference -->", page("docs/settings.md"), re.DOTALL)
    assert between is not None
    assert between[1] == settings_reference()


def test_tree_names_every_module_and_none_that_is_not_there() -> None:
    """A line of the tree is a folder or a file of its own; the names behind a folder's duty are in that folder."""
    tree = page("README.md").partition("## The files")[2].partition("\n    configs/")[0]
    folder, named = "", set()
    for line in tree.splitlines():
        if match := re.match(r"      (\w+)/ ", line):
            folder = f"{match[1]}/"
        elif match := re.match(r"      (\w+\.py) ", line):
            folder = ""
        named |= {folder + name for name in re.findall(r"\b\w+\.(?:py|html|css|js)\b", line)}
    package = ROOT / "charlstm"
    there = {
        str(path.relative_to(package)) for kind in ("py", "html", "css", "js") for path in package.rglob(f"*.{kind}")
    }
    assert named == {path for path in there if not path.rpartition("/")[2].startswith("__")}


def test_walk_names_each_file_once_and_only_files_that_are_there() -> None:
    named = re.findall(r"\*\*`(?:charlstm/)?([\w/]+\.py)`\*\*", page("docs/walk.md"))
    assert len(named) > 25
    assert sorted(named) == sorted(set(named))
    assert all((ROOT / "charlstm" / name).is_file() for name in named)


def test_exit_codes_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", page("docs/exit-codes.md"), re.MULTILINE)
    told = {int(code) for cell in rows for code in cell.split(",")}
    raised = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert told == raised | {0, errors.BROKEN_PIPE_EXIT_CODE, 130, 143, 129, 138}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_no_place_is_unfinished(name: str) -> None:
    text = page(name)
    assert "@@" not in text
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("http"):
            assert (ROOT / name).parent.joinpath(target).exists(), target
