"""The run that is named is opened, or the newest that can do what is needed."""

import os
from pathlib import Path

import pytest
from msgspec import structs

from charlstm.errors import RunError
from charlstm.runs import (
    Run,
    create_run,
    find_run,
    mark_newest,
    newest_folder,
    open_run,
)

from .saved import MODEL, SETTINGS, TEXT, VOCAB


def test_runs_are_found_by_their_name_and_a_path_comes_first(run: Run) -> None:
    assert open_run(Path("small")).folder == find_run(Path("small")) == run.folder
    assert find_run(Path("runs/small")) == run.folder
    assert find_run(Path("nowhere")) == Path("nowhere")
    beside = create_run(Path("small"), SETTINGS, VOCAB, TEXT, name="unused")
    assert open_run(Path("small")).folder == beside.folder == Path("small")


def test_runs_newest_that_can_do_what_is_needed_is_opened(run: Run) -> None:
    began = (run.folder / "vocab.json").stat().st_mtime
    for number, name in enumerate(("next", "cloze", "damaged", "other-version"), start=1):
        model = structs.replace(MODEL, bidirectional=name == "cloze", objective="cloze" if name == "cloze" else "next")
        made = create_run(None, structs.replace(SETTINGS, model=model), VOCAB, TEXT, name=name)
        os.utime(made.folder / "vocab.json", (began + number,) * 2)
    Path("runs/damaged/vocab.json").write_text("[")
    Path("runs/other-version/config.yaml").write_text("training: {warp: 9}\n")
    Path("runs/foreign").mkdir()
    mark_newest(open_run(Path("runs/cloze")))
    assert open_run().folder == open_run(needs="cloze").folder == Path("runs/cloze")
    assert open_run(needs="next").folder == Path("runs/next")
    with pytest.raises(RunError, match="predicts the next character"):
        open_run(Path("next"), needs="cloze")
    mark_newest(open_run(Path("runs/next")))  # though others were begun later
    assert open_run().folder == Path("runs/next")
    Path("runs/latest").write_text("foreign\n")
    assert open_run().folder == Path("runs/cloze")


def test_runs_none_of_which_can_be_used_leave_the_newest_ones_error(run: Run) -> None:
    mark_newest(run)
    with pytest.raises(RunError, match="runs/small predicts the next character"):
        open_run(needs="cloze")


@pytest.mark.parametrize("name", [" spaces at its ends ", "caf\udce9", "two\nlines"])
def test_newest_run_is_found_whatever_its_name(name: str) -> None:
    run = create_run(Path("runs") / name, SETTINGS, VOCAB, TEXT, name="unused")
    mark_newest(run)
    assert newest_folder() == run.folder
