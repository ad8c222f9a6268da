"""Every test of runs is in a folder of its own, with a new run in it."""

import os
from pathlib import Path

import pytest

from charlstm.runs import Run, create_run

from .saved import SETTINGS, TEXT, VOCAB


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", os.fstat)  # that it is called is seen below; no test here pulls the plug


@pytest.fixture
def run() -> Run:
    return create_run(None, SETTINGS, VOCAB, TEXT, name="small")  # in runs/small
