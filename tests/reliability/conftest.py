"""What the reliability sweeps share: a server of forks, a folder of their own, and counts that are printed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .forks import Forks


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    server = Forks()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a count past pytest's capture, one line each."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{request.node.originalname or request.node.name}: {line}", end="")

    return say
