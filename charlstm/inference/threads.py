"""How many threads NumPy's matrix products get while text is sampled.

On 2 cores two threads sample from a large model (2×512, 3×512) 1.4 to 2.4 times as fast as one; beside one busy process
they wait for each other at every product and are 2 to 9 times slower. Small models gain a fifth at best and can lose
a factor of 70. `python benchmarks/sample_speed.py` measures it.
"""

from contextlib import AbstractContextManager, nullcontext

from charlstm.cells import CELLS
from charlstm.settings import ModelSettings

LARGE_WEIGHTS = 1_000_000
IDLE_CORES = 1.5  # of the load average: one for the sampling itself, and most of another
SAME_BITS_MULTIPLE = 64  # of the hidden size: OpenBLAS then divides columns, never a sum, whatever the cell


def sampling_threads(settings: ModelSettings, *, cores: int, load: float) -> int:
    """Two if the layers hold a million weights and the load average leaves a second core idle, else one.

    cores: those that this process may use. load: the average number of processes running, of the last minute.
    One too for a hidden size that is no multiple of 64, since the text would depend on the number of threads.
    """
    weights = len(CELLS[settings.cell].gates) * settings.hidden_size**2 * (2 * settings.num_layers - 1)
    same_bits = settings.hidden_size % SAME_BITS_MULTIPLE == 0
    return 2 if weights >= LARGE_WEIGHTS and same_bits and cores - load >= IDLE_CORES else 1


def numpy_threads(count: int) -> AbstractContextManager[object]:
    """Give NumPy's matrix products so many threads inside a `with`; 1 leaves what `limit_numpy_threads` has set."""
    if count == 1:
        return nullcontext()
    from threadpoolctl import threadpool_limits  # 7 ms

    limits: AbstractContextManager[object] = threadpool_limits(limits=count, user_api="blas")
    return limits
