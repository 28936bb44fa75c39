"""How the C library holds memory for this process: in one heap, and what is freed goes back to the system.

glibc gives each thread that allocates a heap of its own and never hands back what is left at their ends, which is for
programs whose threads allocate all the time. Here they do for a moment, when chunks are fetched, and what that took
would be held until the next start. Another C library does without these numbers.

Source:
    mallopt(3), malloc_trim(3).
"""

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
LARGE_BYTES: Final = 64 * 1024
"""A usual chunk. What is as large lies apart, and its memory goes back when it is freed."""


def hold_little() -> None:
    """Have one heap for all threads; before there are any."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in (
            (_M_ARENA_MAX, 1),
            (_M_MMAP_THRESHOLD, LARGE_BYTES),
            (_M_TRIM_THRESHOLD, LARGE_BYTES),
        ):
            mallopt(option, value)


def give_back() -> None:
    """Return what is free within the heap as well; some milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
