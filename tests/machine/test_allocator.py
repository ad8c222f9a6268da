"""The allocator keeps what was freed, where the C library can be told to."""

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest

from charlstm.machine import allocator
from charlstm.machine.allocator import ARENA_BYTES, MALLOPT_ARENA_MAX, keep_freed_memory


def test_allocator_needs_no_mallopt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    keep_freed_memory()


@pytest.mark.parametrize(("beyond", "shared"), [(0, []), (1, [1])])
def test_allocator_shares_one_arena_for_blocks_that_others_cannot_hold(
    beyond: int, shared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda option, value: told.append((option, value)))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    keep_freed_memory(largest_block_bytes=ARENA_BYTES + beyond)
    assert [value for option, value in told if option == MALLOPT_ARENA_MAX] == shared


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_allocator_keeps_freed_memory() -> None:
    """Page faults, not seconds: memory that is used again is not mapped anew."""
    program = """if True:
        import ctypes, resource, runpy, sys
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        def fault():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            block = libc.malloc(40 << 20)
            ctypes.memset(block, 1, 40 << 20)
            libc.free(block)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        if sys.argv[2] == "keep":
            runpy.run_path(sys.argv[1])["keep_freed_memory"]()
        fault()
        print(min(fault() for _ in range(5)))  # the system may take pages back in between
    """
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", program, allocator.__file__, how], text=True))
        for how in ("keep", "leave")
    }
    assert faults["keep"] * 10 < faults["leave"]
