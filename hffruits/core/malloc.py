"""Keeping freed memory for the next batch, where the C library would return it each time.

A net on a CPU asks for the same large blocks in every step. glibc hands each back to the system and
gets it again, with a page fault for every 4 KB: a third of the time (`benchmarks/memory.py`).
"""

import ctypes
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_NEVER = 2**31 - 1  # bytes
_ARENAS = 4  # that threads share; each stays at a peak of its own


@cache
def keep_freed_memory() -> bool:
    """For this process, from now on; its memory stays at its peak. Whether that could be done.

    The command line does it; a program of your own may.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    options = {_M_MMAP_THRESHOLD: 2**30, _M_TRIM_THRESHOLD: _NEVER, _M_ARENA_MAX: _ARENAS}
    return all(mallopt(option, value) for option, value in options.items())
