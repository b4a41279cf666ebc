"""Whether glibc's allocator gives memory back to the system, switched inside a running process.

Tensors of tens of MB are new pages of the system at each step unless the allocator keeps them:
each page is then faulted in and cleared again.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_memory", "settle_memory"]

# From malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4
_MB = 1 << 20


def settle_memory() -> bool:
    """Set what the thresholds of an untouched glibc settle at; False where there is no glibc.

    They grow with the blocks that are freed, up to 32 MB, above which a block is always given
    back, and twice that for the free top of the heap.
    """
    return _mallopt(
        (_M_MMAP_MAX, 65_536),
        (_M_MMAP_THRESHOLD, 32 * _MB),
        (_M_TRIM_THRESHOLD, 64 * _MB),
        (_M_TOP_PAD, 128 << 10),
    )


def keep_memory() -> bool:
    """Let the heap keep what is freed; False where there is no glibc."""
    return _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * _MB))


def _mallopt(*settings: tuple[int, int]) -> bool:
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all(libc.mallopt(name, value) == 1 for name, value in settings)
