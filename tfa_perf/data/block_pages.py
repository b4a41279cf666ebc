"""Memory of a pass in blocks over a memory-mapped table that is larger than main memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfa_perf.data.mapped import MappedRows
from tfa_perf.data.order import BlockOrder, Order
from tfa_perf.data.plan import WindowPlan
from tfa_perf.data.table import Table

__all__ = ["BlockPages"]


class BlockPages:
    """Pages that a shuffle in blocks reads, a group of blocks at a time.

    A group's pages are asked for ahead of use and taken out of this process once the pass has
    left the group: it never holds much more than a group, however large the table is.
    """

    def __init__(self, rows: MappedRows, plan: WindowPlan, order: BlockOrder) -> None:
        self._rows, self._plan, self._order = rows, plan, order
        self._groups = range(0)

    @staticmethod
    def of(table: Table, plan: WindowPlan, order: Order) -> BlockPages | None:
        """None where there are no blocks or no pages of a file."""
        rows = MappedRows.of(table.X)
        if rows is None or not isinstance(order, BlockOrder):
            return None
        return BlockPages(rows, plan, order)

    def reach(self, start: int, stop: int) -> None:
        """The pass goes on with positions start..stop-1, and has ended where there are none."""
        groups = range(0)
        if start < stop:
            groups = range(self._order.group_of(start), self._order.group_of(stop - 1) + 1)
        for group in self._groups:
            if group not in groups:
                self._each_block(group, self._rows.release)
        for group in groups:
            if group not in self._groups:
                self._each_block(group, self._rows.want)
        self._groups = groups

    def _each_block(self, group: int, advise: Callable[[int, int], None]) -> None:
        for first, end in self._order.blocks(group):
            low, high = self._plan.index.last_rows(np.array([first, end - 1])).tolist()
            advise(low - self._plan.window + 1, high + 1)
