"""Memory of a memory-mapped table that is larger than main memory."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfa_perf.data.mapped import mapped_file
from tfa_perf.data.order import BlockOrder, Order
from tfa_perf.data.plan import WindowPlan
from tfa_perf.data.table import Table

__all__ = ["BlockPages"]


class BlockPages:
    """The pages of a memory-mapped table that a shuffle in blocks reads, a group at a time.

    A group's pages are asked for ahead of use and taken out of this process once the pass has
    left the group: it never holds much more than a group, however large the table is.
    """

    def __init__(
        self, X: NDArray[Any], file: np.memmap[Any, Any], plan: WindowPlan, order: BlockOrder
    ) -> None:
        self._mmap: mmap.mmap = file.base  # type: ignore[assignment]
        # The map begins at a page, the array some bytes into it.
        begin = file.ctypes.data - file.offset % mmap.ALLOCATIONGRANULARITY
        self._at, self._row_bytes = X.ctypes.data - begin, X.strides[0]
        self._plan, self._order = plan, order
        self._group: int | None = None

    @staticmethod
    def of(table: Table, plan: WindowPlan, order: Order) -> BlockPages | None:
        """None where there is no map of a file, no blocks, or no advice on pages to be given."""
        file = mapped_file(table.X)
        if file is None or not isinstance(order, BlockOrder) or not hasattr(mmap, "MADV_DONTNEED"):
            return None
        return BlockPages(np.asarray(table.X), file, plan, order)

    def reach(self, position: int | None) -> None:
        """The pass goes on at ``position``, or has ended where it is None."""
        group = None if position is None else self._order.group_of(position)
        if group == self._group:
            return
        if self._group is not None:
            for left in range(self._group, self._group + 1 if group is None else group):
                self._advise(mmap.MADV_DONTNEED, left)
        if group is not None:
            self._advise(mmap.MADV_WILLNEED, group)
        self._group = group

    def _advise(self, advice: int, group: int) -> None:
        for first, end in self._order.blocks(group):
            low, high = self._plan.index.last_rows(np.array([first, end - 1])).tolist()
            start = self._at + (low - self._plan.window + 1) * self._row_bytes
            start -= start % mmap.PAGESIZE
            self._mmap.madvise(advice, start, self._at + (high + 1) * self._row_bytes - start)
