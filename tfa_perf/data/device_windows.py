"""Windows on a device that holds the whole table: only row numbers travel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tfa_perf.data.device_gather import DeviceGather
from tfa_perf.data.host_windows import zero_nans
from tfa_perf.data.table import Table, WindowForm, as_tensor, row_blocks

__all__ = ["ResidentWindows", "shortage", "to_device"]

# At most this share of a device's free memory goes to a table; the rest is the model's.
_TABLE_SHARE = 0.5


class ResidentWindows:
    """Windows gathered on the device that holds the whole table.

    Raises torch.OutOfMemoryError where the table does not fit after all.
    """

    def __init__(self, table: Table, form: WindowForm, device: torch.device) -> None:
        self.device, self._form = device, form
        self._X, self._y = _rows_on(table, device)
        self._gather = DeviceGather(device, form.window, form.dtype, table.shift, table.factor)
        self._unmasked = None
        if form.unmasked is not None:
            self._unmasked = torch.from_numpy(form.unmasked).to(device)
        self._before = torch.arange(form.window - 1, -1, -1, device=device)

    def batches(
        self, ends: NDArray[np.int64], sizes: Sequence[int]
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """Batches of ``sizes`` windows each, which end at rows ``ends``, one after the other."""
        # The row numbers of all of them travel in one copy.
        return map(self.batch, to_device(torch.from_numpy(ends), self.device).split(list(sizes)))

    def batch(self, ends: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """x [b, T, F], y [b, 1] and what else the form asks for, of windows ending at ``ends``."""
        x, y = self._gather(self._X, ends, self._y, self._form.horizon)
        parts = [x, y]
        if self._unmasked is not None:
            zero_nans(x)
            parts.append(self._unmasked[ends.unsqueeze(1) - self._before])
        if self._form.index:
            parts.append(ends)
        return tuple(parts)


def shortage(table: Table, device: torch.device) -> str | None:
    """Why ``table`` should not be kept on ``device``, or None where it may."""
    if device.type != "cuda" or isinstance(table.X, torch.Tensor):
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if table.nbytes <= free * _TABLE_SHARE:
        return None
    return (
        f"the table has {table.nbytes / 1e6:,.0f} MB, {device} has {free / 1e6:,.0f} MB free, and "
        f"{1 - _TABLE_SHARE:.0%} of that is left to the model"
    )


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy of a small tensor on ``device``, through torch's own pinned memory on CUDA."""
    if device.type != "cuda":
        return tensor.to(device, copy=True)
    return tensor.pin_memory().to(device, non_blocking=True)


def _rows_on(table: Table, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(table.X, torch.Tensor):
        return table.X, torch.as_tensor(table.y, device=device)
    X = torch.empty(table.X.shape, dtype=table.dtype, device=device)
    for block in row_blocks(table):
        # A copy, because torch warns of arrays that cannot be written; a memory map need not fit.
        X[block] = as_tensor(np.array(table.X[block]), table.dtype).to(device)
    return X, torch.from_numpy(np.array(table.y)).to(device)
