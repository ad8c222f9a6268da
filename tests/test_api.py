"""The public names: what the README's snippet does, and what a run of another objective is told."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import charlstm
from charlstm import environment
from charlstm.api import likeliest_documents, sample_documents
from charlstm.errors import InputOutputError, RunError, SettingsError, TextError
from charlstm.settings import SamplingSettings

from .training.test_session import TEXT, settings


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    (folder / "text.txt").write_text(TEXT)
    return folder


def train(place: Path, name: str, **model: object) -> charlstm.Run:
    if not (place / name).exists():
        chosen = settings(sources=(str(place / "text.txt"),), max_steps=3, model=model)
        with charlstm.start_session(chosen, folder=place / name) as session:
            session.train()
    return charlstm.open_run(place / name)


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> charlstm.Run:
    monkeypatch.chdir(place)
    return train(place, "next")


@pytest.fixture
def cloze(place: Path, monkeypatch: pytest.MonkeyPatch) -> charlstm.Run:
    monkeypatch.chdir(place)
    return train(place, "cloze", objective="cloze", bidirectional=True)


def test_api_names_are_there_and_others_are_not() -> None:
    for name in charlstm.__all__:
        assert getattr(charlstm, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'smaple'"):
        charlstm.smaple  # noqa: B018


def test_api_refuses_a_prompt_that_is_no_text(run: charlstm.Run) -> None:
    with pytest.raises(TextError, match="the prompt"):
        charlstm.sample(run, prompt="\udcff")


@pytest.mark.parametrize("ids", [[[1, 2], [3, 4]], [[1], [2]], [1.0, 2.5], [0, -1], [0, 10_000], []])
def test_api_refuses_to_measure_what_are_no_ids(run: charlstm.Run, ids: list[Any]) -> None:
    with pytest.raises(TextError):
        charlstm.evaluate(run, np.array(ids))


def test_api_refuses_what_has_no_meaning(run: charlstm.Run) -> None:
    with pytest.raises(SettingsError, match="integer"):
        charlstm.sample(run, length=2.5)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="one of train, val, test"):
        charlstm.read_split(run, "all")
    assert len(charlstm.score(run, iter(["the cat", "sat"])).nats) == 2
    for lines in ("abc", b"abc", [None], ["a", 1]):
        with pytest.raises(TypeError):
            charlstm.score(run, lines)  # type: ignore[arg-type]


def test_api_trains_measures_and_samples(run: charlstm.Run) -> None:
    figures = charlstm.evaluate(run, charlstm.read_split(run, "val")).figures
    assert figures["loss"] == pytest.approx(charlstm.read_metrics(run.folder)[-1].val_loss, abs=1e-6)
    text = charlstm.sample(run, prompt="the ", length=30, seed=4)
    assert len(text) == 30
    assert set(text) <= set(TEXT)
    assert text == charlstm.sample(run, prompt="the ", length=30, seed=4) != charlstm.sample(run, length=30, seed=5)


def test_api_fills_gaps(cloze: charlstm.Run) -> None:
    filled = charlstm.fill(cloze, b"the c_t sat_")
    assert len(filled) == 12
    assert filled.startswith(b"the c")
    assert b"_" not in filled
    assert "cloze_loss" in charlstm.evaluate(cloze, charlstm.read_split(cloze, "val")).figures


def test_api_refuses_what_a_run_cannot_do(run: charlstm.Run, cloze: charlstm.Run) -> None:
    with pytest.raises(RunError, match="cloze fills gaps"):
        charlstm.sample(cloze, length=3)
    with pytest.raises(RunError, match="next predicts the next character"):
        charlstm.fill(run, b"a_b")
    with pytest.raises(SettingsError, match="length is 0"):
        charlstm.sample(run, length=0)
    with pytest.raises(SettingsError, match="seed is -1"):
        charlstm.sample(run, length=3, seed=-1)
    for draw in (likeliest_documents, partial(sample_documents, sampling=SamplingSettings())):
        with pytest.raises(SettingsError, match="wanted is 0, but must be an integer of at least 1"):
            next(iter(draw(run, wanted=0)))
    with pytest.raises(SettingsError, match="mask is empty"):
        charlstm.fill(cloze, b"ab", mask=b"")
    with pytest.raises(SettingsError, match="protocol"):
        charlstm.evaluate(cloze, charlstm.read_split(cloze, "val"), protocol="windows")


def test_api_completes_settings_that_set_no_limit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    with charlstm.start_session(settings(max_steps=None), folder=place / "unlimited") as session:
        assert session.settings.training.max_minutes == 1.0


def test_api_notices_that_the_encoded_text_was_changed(run: charlstm.Run) -> None:
    ids = charlstm.read_split(run, "val")
    for path in environment.cache_folder().glob("*.ids"):
        os.utime(path, ns=(1, 1))
    for measure in (charlstm.evaluate, lambda run, ids: charlstm.evaluate_dynamic(run, [ids], ids)):
        with pytest.raises(InputOutputError, match="changed by another program"):
            measure(run, ids)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_api_refuses_a_temperature_that_is_none(cloze: charlstm.Run, temperature: float) -> None:
    with pytest.raises(SettingsError, match="temperature"):
        charlstm.fill(cloze, b"a_b", temperature=temperature)
