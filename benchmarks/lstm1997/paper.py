"""The rows of the paper's tables: sizes, criteria, and after how many sequences a task was solved."""

from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.lstm1997.tasks import (
    ORDER,
    REBER,
    Criterion,
    Draw,
    Source,
    Task,
    draw_lag,
    draw_long_lag,
    draw_marked,
    draw_order,
    draw_two_sequences,
    end_errors,
    largest_errors,
    open_reber,
    reber_errors,
)


def _source(draw: Draw, test: Draw, _seed: int) -> Source:
    """Sequences that are drawn anew each time, whatever the seed."""
    return Source(draw, test)


def _lag(name: str, paper: int, *, p: int) -> Task:
    is_random = name == "2b"
    draw = partial(draw_lag, p=p, is_random=is_random)
    return Task(
        name=f"{name} p={p}",
        paper=paper,
        input_size=p + 1,
        output_size=p + 1,
        length=p,
        criterion=Criterion(10_000, 0.25),
        is_tested=True,
        open=partial(_source, draw, draw),
        errors=end_errors if is_random else largest_errors,
    )


def _long_lag(paper: int, *, q: int, p: int) -> Task:
    draw = partial(draw_long_lag, p=p, q=q)
    return Task(
        name=f"2c q={q} p={p}",
        paper=paper,
        input_size=p + 4,
        output_size=2,
        length=q + 13,
        criterion=Criterion(10_000, 0.2),
        is_tested=True,
        open=partial(_source, draw, draw),
    )


def _two_sequences(name: str, paper: int, criterion: Criterion, *, length: int, n: int) -> Task:
    values, noise = ((0.2, 0.8), 0.1) if name == "3c" else ((1.0, 0.0), 0.0)
    draw = partial(draw_two_sequences, length=length, n=n, noisy_signal=name == "3b", values=values)
    return Task(
        name=f"{name} T={length} N={n}",
        paper=paper,
        input_size=1,
        output_size=1,
        length=length,
        criterion=criterion,
        is_tested=True,
        open=partial(_source, partial(draw, noise=noise), partial(draw, noise=0.0)),
    )


def _marked(name: str, paper: int, criterion: Criterion, *, length: int) -> Task:
    draw = partial(draw_marked, length=length, multiply=name.startswith("multiplication"))
    return Task(
        name=f"{name} T={length}",
        paper=paper,
        input_size=2,
        output_size=1,
        length=length,
        criterion=criterion,
        is_tested=False,
        open=partial(_source, draw, draw),
    )


def _order(name: str, paper: int, *, places: Sequence[tuple[int, int]]) -> Task:
    draw = partial(draw_order, places=places)
    return Task(
        name=name,
        paper=paper,
        input_size=len(ORDER),
        output_size=2 ** len(places),
        length=105,
        criterion=Criterion(2000, 0.3, mean_below=0.1),
        is_tested=False,
        open=partial(_source, draw, draw),
    )


_NOISE_FREE = Criterion(256, 0.2, mean_below=0.01)
_NOISY = Criterion(256, 0.2, wrong=6, mean_below=0.04)
_NOISY_TARGETS = Criterion(256, 0.1, mean_below=0.015)
_SUM = Criterion(2000, 0.04, mean_below=0.01)

_ROWS = (
    Task("reber", 8_440, len(REBER), len(REBER), 12, Criterion(512, 0.5), True, open_reber, reber_errors),  # table 1
    _lag("2a", 5_040, p=100),  # table 2
    _lag("2b", 5_680, p=100),  # the text of section 5.2
    _long_lag(30_000, q=50, p=50),  # table 3
    _long_lag(31_000, q=100, p=100),
    _long_lag(33_000, q=200, p=200),
    _long_lag(38_000, q=500, p=500),
    _long_lag(49_000, q=1000, p=1000),
    _long_lag(49_000, q=1000, p=500),
    _long_lag(75_000, q=1000, p=200),
    _long_lag(135_000, q=1000, p=100),
    _long_lag(203_000, q=1000, p=50),
    _two_sequences("3a", 39_850, _NOISE_FREE, length=100, n=3),  # table 4, ST2
    _two_sequences("3a", 64_330, _NOISE_FREE, length=100, n=1),
    _two_sequences("3a", 452_460, _NOISE_FREE, length=1000, n=3),
    _two_sequences("3b", 43_250, _NOISY, length=100, n=3),  # table 5, ST2
    _two_sequences("3b", 78_430, _NOISY, length=100, n=1),
    _two_sequences("3b", 485_080, _NOISY, length=1000, n=1),
    _two_sequences("3c", 269_650, _NOISY_TARGETS, length=100, n=3),  # table 6
    _two_sequences("3c", 565_640, _NOISY_TARGETS, length=100, n=1),
    _marked("adding", 74_000, _SUM, length=100),  # table 7
    _marked("adding", 209_000, _SUM, length=500),
    _marked("adding", 853_000, _SUM, length=1000),
    _marked("multiplication, 140 wrong", 482_000, Criterion(2000, 0.04, wrong=140), length=100),  # table 8
    _marked("multiplication, 13 wrong", 1_273_000, Criterion(2000, 0.04, wrong=13), length=100),
    _order("6a", 31_390, places=((10, 20), (50, 60))),  # table 9
    _order("6b", 571_100, places=((10, 20), (33, 43), (66, 76))),
)
TASKS: Mapping[str, Task] = {task.name: task for task in _ROWS}
