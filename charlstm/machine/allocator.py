"""The C library's memory allocator, told to keep what a training step frees."""

import ctypes

MALLOPT_TRIM_THRESHOLD, MALLOPT_TOP_PAD, MALLOPT_MMAP_THRESHOLD, MALLOPT_ARENA_MAX = -1, -2, -3, -8  # of glibc
ARENA_BYTES = 64 << 20  # the largest block that the arena of a thread can hold in glibc's malloc


def keep_freed_memory(*, largest_block_bytes: int = 0) -> None:
    """Tell glibc's malloc not to give large blocks back to the system; elsewhere than on glibc this does nothing.

    A training step allocates and frees hundreds of MB; returning them makes every step fault its pages in anew,
    which on a virtual machine halves the speed.
    largest_block_bytes: what a thread will ask for at once; if the arena of a thread cannot hold it, which would
    map it anew each time, all threads share the main one, at the price of waiting for each other there.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MALLOPT_MMAP_THRESHOLD, 1 << 30)
        mallopt(MALLOPT_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(MALLOPT_TOP_PAD, 64 << 20)
        if largest_block_bytes > ARENA_BYTES:
            mallopt(MALLOPT_ARENA_MAX, 1)
