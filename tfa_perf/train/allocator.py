"""Memory of activations that a CPU step frees and asks for again."""

from __future__ import annotations

import ctypes
import os
import platform

__all__ = ["keep_freed_memory"]

# The names and the largest value of malloc.h (glibc).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD_MAX = 4 * 1024 * 1024 * ctypes.sizeof(ctypes.c_long)
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Have glibc keep up to 1 GiB of freed memory in this process; False where it is not glibc's.

    Left alone, malloc returns what a micro-batch freed to the kernel, which hands it out again
    page by page and zeroed: tens of thousands of page faults an optimizer step. A choice made
    in the environment (``GLIBC_TUNABLES``, ``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_THRESHOLD_``)
    stands.
    """
    chosen = (
        "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
        or "MALLOC_TRIM_THRESHOLD_" in os.environ
        or "MALLOC_MMAP_THRESHOLD_" in os.environ
    )
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_MAX) and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    )
