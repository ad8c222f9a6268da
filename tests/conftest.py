"""What every test stands on: one torch thread, a cache of its own, nothing from the user's environment; and figures
that tests report, shown at the end."""

import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from threadpoolctl import threadpool_limits

from .forks import Forks

# no test here is about the clock; the quick tests draw fewer examples than the long ones
for ignored, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(ignored) is signal.SIG_IGN:  # as a shell has its background jobs do, and nohup
        signal.signal(ignored, handler)

hypothesis.settings.register_profile("quick", deadline=None, max_examples=25)
hypothesis.settings.register_profile("long", deadline=None, max_examples=400)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the sweeps that take minutes")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "quick")
    threadpool_limits(1, user_api="blas")  # as the program has it; two threads that wait for each other only spin


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
    torch.set_flush_denormal(False)  # as a training run in this process leaves it, the smallest numbers count as 0
    monkeypatch.setenv("CHARLSTM_CACHE", str(session_cache))
    for variable in ("CHARLSTM_RUN", "CHARLSTM_DATA"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Runs `charlstm` in processes that need not load torch first."""
    server = Forks()
    yield server
    server.close()


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Report a line, which is shown after the tests."""
    return lambda line: record_property("told", line)


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Report a difference by its name; the largest of each name is shown after the tests."""
    return lambda name, difference: record_property("measured", (name, difference))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    differences: dict[str, list[float]] = defaultdict(list)
    lines = []
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for kind, value in report.user_properties:
            if kind == "told":
                lines.append(f"{report.nodeid.rpartition('::')[2]}: {value}")
            elif kind == "measured":
                differences[value[0]].append(value[1])
    lines += [f"{name}: at most {max(found):.1e} in {len(found)} cases" for name, found in differences.items()]
    if lines:
        terminalreporter.section("found")
        terminalreporter.write_line("\n".join(lines))
