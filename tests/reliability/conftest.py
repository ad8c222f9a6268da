"""Every reliability test runs in a folder of its own; a trained run, of which it may damage a copy."""

import shutil
from pathlib import Path

import pytest

from charlstm import runs
from charlstm.runs import checkpoints

from ..small_runs import resume, stopping, train


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    """A run whose best is older than its latest; tests damage copies of it."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # beside which runs/latest is written
        patch.setenv("CHARLSTM_CACHE", str(session_cache))
        run = train(folder, validate=4, steps=4)
        with stopping(6):
            resume(run, ("training.max_steps=9",))
    opened = runs.open_run(run)
    assert checkpoints.checkpoint_names(opened) == ["step-00000004", "step-00000005", "step-00000006"]
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))
