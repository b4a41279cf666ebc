"""Arrays that are memory maps of files, which another process can map again."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mapped_file", "reopened"]


def mapped_file(array: object) -> np.memmap[Any, Any] | None:
    """The map of a file that ``array`` is, or is a view of; None where it is none.

    Nor where the map is a private copy (mode "c"): letting go of its pages would lose changes.
    """
    found = None
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):
            found = array
        array = array.base
    return None if found is None or found.mode == "c" or found.filename is None else found


def reopened(array: NDArray[Any]) -> tuple[Any, ...] | None:
    """Arguments with which `np.memmap` maps ``array`` again, read-only; None where it is no map."""
    found = mapped_file(array)
    if found is None or not array.flags.c_contiguous or not array.size:
        return None
    offset = found.offset + array.ctypes.data - found.ctypes.data
    return str(found.filename), array.dtype, "r", offset, array.shape
