"""Where things are on this machine: the only reader of environment variables. Loads nothing heavy.

| variable         | meaning                                                                            |
|------------------|------------------------------------------------------------------------------------|
| CHARLSTM_RUN     | the run folder that the reading commands take when `--run` is not given            |
| CHARLSTM_DATA    | a folder with tinyshakespeare.txt, which is then not downloaded                     |
| CHARLSTM_CACHE   | where encoded texts are kept; by default charlstm/ under XDG_CACHE_HOME or ~/.cache |
| TERM             | "dumb": no line of progress that redraws itself                                     |
| NO_COLOR         | not empty: no colours                                                              |
| OMP_NUM_THREADS  | processor cores that are used; by default all                                      |
| OPENBLAS_NUM_THREADS, MKL_NUM_THREADS | set: what computes with NumPy uses one core                        |
| GOMP_SPINCOUNT   | how often a thread of OpenMP looks before it sleeps; by default 1000               |
| CUBLAS_WORKSPACE_CONFIG | the memory that cuBLAS works in, by default one with which it repeats its bits |
| TORCH_CPP_LOG_LEVEL | what torch's C++ code writes to stderr; by default errors alone                  |
| RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE | of a process of a training run, which torchrun sets          |
| MASTER_ADDR, MASTER_PORT | where they meet, which torch reads                                         |
| TORCHELASTIC_MAX_RESTARTS | above 0: torchrun starts a training run again that has failed                     |
"""

import errno
import os
from pathlib import Path
from typing import NamedTuple

WORKSPACE = ":4096:8"  # eight buffers of 4 MiB: one of those with which cuBLAS, and so cuDNN's LSTM, repeats its bits
SPINS = 1000  # a few microseconds, after which a thread that waits for others of its team lets the system wake it
NUMPY_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ProcessPlace(NamedTuple):
    """Which of the processes of a training run this is, of all and of those on this machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def run_folder() -> Path | None:
    """The run folder named by CHARLSTM_RUN, None if it is not set."""
    return _path("CHARLSTM_RUN")


def data_folder() -> Path | None:
    """The folder of corpora named by CHARLSTM_DATA, None if it is not set."""
    return _path("CHARLSTM_DATA")


def cache_folder() -> Path:
    """The folder for what can be made again: encoded texts and what was measured about this machine. Raises OSError."""
    return _path("CHARLSTM_CACHE") or (_path("XDG_CACHE_HOME") or _expanded("~/.cache")) / "charlstm"


def process_place() -> ProcessPlace | None:
    """The place that torchrun, or another launcher that sets its variables, gave this process; None without one."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    values = [os.environ.get(name, "") for name in names]
    return ProcessPlace(*map(int, values)) if all(value.isdecimal() for value in values) else None


def is_restarted() -> bool:
    """Whether torchrun starts this command anew, as it stands, when a process has failed."""
    return os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") not in ("", "0")


def terminal_redraws() -> bool:
    """Whether a terminal here can draw over a line it has written; TERM says so."""
    return os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def terminal_colours() -> bool:
    """Whether a terminal here is to be given colours; TERM and NO_COLOR say so."""
    return terminal_redraws() and not os.environ.get("NO_COLOR")


def available_cores(processes: int = 1) -> int:
    """The processor cores for each of so many processes; OMP_NUM_THREADS says so where it is set."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if asked.isascii() and asked.isdigit() and len(asked) < 6 and int(asked) > 0:
        return int(asked)
    return max(1, _processors() // processes)


def prepare_torch() -> None:
    """Have OpenMP's threads give up their core soon when they wait, cuBLAS repeat its bits, and torch not warn.

    Where a process is lost, torch would write C++ frames to stderr before the exception that says so.
    Only works before torch is first imported.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def limit_numpy_threads() -> int:
    """Give NumPy's matrix products one thread; only works before NumPy is first imported.

    Returns the cores that more threads may use: those of this process, or one where NumPy has been given a number.
    """
    cores = 1 if any(variable in os.environ for variable in NUMPY_THREADS) else available_cores()
    for variable in (*NUMPY_THREADS, "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    return cores


def load_average() -> float:
    """The average number of processes running in the last minute, infinite where the system does not count them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("inf")


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return _expanded(value) if value else None


def _expanded(path: str) -> Path:
    """The path with ~ as a folder. Raises OSError where nobody knows it."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        reason = "nobody knows this home folder here; set HOME or CHARLSTM_CACHE"
        raise FileNotFoundError(errno.ENOENT, reason, path) from None
