"""Environment: what each variable does, and that without them everything has its place."""

import os
from pathlib import Path

import pytest

from charlstm import environment


@pytest.mark.parametrize(
    ("variable", "find"), [("CHARLSTM_RUN", environment.run_folder), ("CHARLSTM_DATA", environment.data_folder)]
)
def test_environment_folders_are_what_the_variables_name(variable, find, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find() is None
    monkeypatch.setenv(variable, "")
    assert find() is None
    monkeypatch.setenv(variable, "some/where")
    assert find() == Path("some/where")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv(variable, "~/here")
    assert find() == Path("/home/me/here")


def test_environment_cache_is_the_variable_else_xdg_else_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("CHARLSTM_CACHE", "/own")
    assert environment.cache_folder() == Path("/own")
    monkeypatch.delenv("CHARLSTM_CACHE")
    assert environment.cache_folder() == Path("/xdg/charlstm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert environment.cache_folder() == Path("/home/me/.cache/charlstm")


def test_environment_numpy_threads_are_one_unless_the_user_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment.limit_numpy_threads() == 3
    found = [os.environ[variable] for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")]
    assert environment.limit_numpy_threads() == 1  # NumPy's own threads are what the user has set
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(variable)
    assert found == ["1", "1", "3"]


@pytest.mark.parametrize("odd", ["", "0", "abc", "-1", "²", "9" * 5000])
def test_environment_odd_numbers_of_cores_are_those_of_the_machine(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    expected = environment.available_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", odd)
    assert environment.available_cores() == expected >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert environment.available_cores() == 3
