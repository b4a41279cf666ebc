"""Arrays that are maps of files: mapped again in another process, their pages let go of."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MappedRows", "mapped_file", "reopened"]

_LARGE_PAGE = 2 << 20


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


class MappedRows:
    """The pages under the rows of a table that is a map of a file."""

    def __init__(self, X: NDArray[Any], file: np.memmap[Any, Any]) -> None:
        self._mmap: mmap.mmap = file.base  # type: ignore[assignment]
        # The map begins at a page, the array some bytes into it.
        begin = file.ctypes.data - file.offset % mmap.ALLOCATIONGRANULARITY
        self._at, self._row_bytes = X.ctypes.data - begin, X.strides[0]

    @staticmethod
    def of(X: object) -> MappedRows | None:
        """None where X is no map of a file, or the system takes no advice on pages."""
        file = mapped_file(X)
        if file is None or not hasattr(mmap, "MADV_DONTNEED"):
            return None
        return MappedRows(np.asarray(X), file)

    def want(self, first: int, end: int) -> None:
        """Have rows first..end-1 read from the file, ahead of their use, and nothing around them.

        Left alone, the first row that is missing makes the system read as far around it as the
        disk's read-ahead says, 8 MB on some: from many places at a time, that evicts what is read.
        """
        self._advise(mmap.MADV_RANDOM, first, end)
        self._advise(mmap.MADV_WILLNEED, first, end)

    def release(self, first: int, end: int) -> None:
        """Take rows first..end-1 out of this process; whoever reads them again gets them again."""
        self._advise(mmap.MADV_NORMAL, first, end)
        # The system may map a whole large page for one row of it: what lies around goes too.
        self._advise(mmap.MADV_DONTNEED, first, end, around=_LARGE_PAGE)

    def _advise(self, advice: int, first: int, end: int, around: int = mmap.PAGESIZE) -> None:
        low, high = self._at + first * self._row_bytes, self._at + end * self._row_bytes
        start = low - low % around
        self._mmap.madvise(advice, start, min(high + -high % around, len(self._mmap)) - start)
