"""A folder with a finished run, which commands may use as they like."""

import shutil
from pathlib import Path

import pytest

from .commands import DATA, charlstm, write_settings


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    """A folder with a text, settings and a finished run, to copy or to read."""
    folder = tmp_path_factory.mktemp("workshop")
    write_settings(folder, (DATA / "the-tide-clock.txt").read_text()[:6000])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CHARLSTM_CACHE", str(session_cache))
        charlstm("train", "tiny.yaml")
    return folder


@pytest.fixture
def here(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workshop, as the current folder."""
    folder = tmp_path / "here"
    shutil.copytree(workshop, folder)
    monkeypatch.chdir(folder)
    return folder
