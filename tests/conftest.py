"""What every test stands on: one torch thread, a cache of its own, and nothing from the user's environment."""

from pathlib import Path

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("charlstm", deadline=None)  # no test here is about the clock
hypothesis.settings.load_profile("charlstm")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the sweeps that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="a long sweep: run with --long"))


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_surroundings(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)  # as a training in this process leaves it, the smallest numbers count as 0
    monkeypatch.setenv("CHARLSTM_CACHE", str(session_cache))
    for variable in ("CHARLSTM_RUN", "CHARLSTM_DATA"):
        monkeypatch.delenv(variable, raising=False)
