"""Windows on a device that holds the whole table: only row numbers travel."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tfa_perf.data.host_windows import zero_nans
from tfa_perf.data.table import Table, WindowForm, as_tensor, row_blocks

__all__ = ["DeviceGather", "ResidentWindows", "Timed", "shortage", "spaced_columns", "to_device"]

_log = logging.getLogger(__name__)

# Two CUDA events, and how many windows were made between them.
Timed = tuple[torch.cuda.Event, torch.cuda.Event, int]

# Batches made in one launch: what starting a kernel costs is several times what a batch costs.
_LAUNCH_BYTES = 64 << 20
# Every so many launches are timed.
_TIMED_EVERY, _KEPT_EVENTS = 8, 64
# At most this share of a device's free memory goes to a table; the rest is the model's.
_TABLE_SHARE = 0.5


class DeviceGather:
    """Cuts windows out of rows on one device, converts and scales them, and fetches labels.

    One Triton kernel on a CUDA device where Triton works, torch's own otherwise; both give the
    same bits, which are those of the CPU gather. ``spaced``: the kernel puts rows of x
    ``spaced_columns`` apart, which products read faster, with 0 between them.
    """

    def __init__(
        self,
        device: torch.device,
        window: int,
        dtype: torch.dtype,
        shift: Any = None,
        factor: Any = None,
        *,
        spaced: bool = False,
    ) -> None:
        self._window, self._dtype, self._spaced = window, dtype, spaced
        self._shift = self._factor = None
        if shift is not None:
            self._shift = torch.as_tensor(shift, device=device)
            self._factor = torch.as_tensor(factor, device=device)
        self._triton = _triton_gather(device)

    def __call__(
        self, X: torch.Tensor, ends: torch.Tensor, labels: torch.Tensor, horizon: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x [b, T, F] and y [b, 1] of the windows that end at rows ``ends`` int64 [b] of X.

        ``labels[ends + horizon]`` are the labels.
        """
        rows, columns = X.shape
        if self._triton is not None and labels.dtype is not torch.bool:
            wide = spaced_columns(columns) if self._spaced else columns
            x = torch.empty((len(ends), self._window, wide), dtype=self._dtype, device=X.device)
            y = torch.empty((len(ends), 1), dtype=labels.dtype, device=X.device)
            self._triton(X, ends, self._window, x, labels, horizon, y, self._shift, self._factor)
            return x[..., :columns], y
        windows = X.as_strided(
            (rows - self._window + 1, self._window, columns), (columns, columns, 1)
        )
        x = windows.index_select(0, ends - (self._window - 1))
        if self._shift is not None and self._factor is not None:
            x = (x.float() - self._shift) * self._factor
        return x.to(self._dtype), labels.index_select(0, ends + horizon).unsqueeze(1)


class ResidentWindows:
    """Windows gathered on the device that holds the whole table.

    Raises torch.OutOfMemoryError where the table does not fit after all.
    """

    def __init__(self, table: Table, form: WindowForm, device: torch.device) -> None:
        self.device, self._form = device, form
        self._X, self._y = _rows_on(table, device)
        self._scale = table.shift, table.factor
        self._gather = DeviceGather(device, form.window, form.dtype, *self._scale)
        self._unmasked = None
        if form.unmasked is not None:
            self._unmasked = torch.from_numpy(form.unmasked).to(device)
        self._before = torch.arange(form.window - 1, -1, -1, device=device)
        self._window_bytes = form.window * table.columns * form.dtype.itemsize
        self._launches = 0
        self.events: deque[Timed] = deque(maxlen=_KEPT_EVENTS)

    def batches(
        self, ends: NDArray[np.int64], sizes: Sequence[int]
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """Batches of ``sizes`` windows each, which end at rows ``ends``, one after the other.

        Batches of up to 64 MB together are parts of one tensor, made when the first is asked for.
        """
        # The row numbers of all of them travel in one copy.
        there = to_device(torch.from_numpy(ends), self.device)
        together = max(1, _LAUNCH_BYTES // max(1, max(sizes) * self._window_bytes))
        done = 0
        for first in range(0, len(sizes), together):
            some = list(sizes[first : first + together])
            made = self._timed(there[done : done + sum(some)])
            stream = _current_stream(self.device)
            yield from _delivered(zip(*(part.split(some) for part in made), strict=True), stream)
            done += sum(some)

    def windows(self, ends: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """x [b, T, F], y [b, 1] and what else the form asks for, of windows ending at ``ends``."""
        return self._windows(self._gather, ends)

    def operands(self, dtype: torch.dtype) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
        """`windows` for a model that begins with a product of x rounded to ``dtype``.

        x is that already, rows spaced.
        """
        gather = DeviceGather(self.device, self._form.window, dtype, *self._scale, spaced=True)
        return partial(self._windows, gather)

    def _windows(self, gather: DeviceGather, ends: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, y = gather(self._X, ends, self._y, self._form.horizon)
        parts = [x, y]
        if self._unmasked is not None:
            zero_nans(x)
            parts.append(self._unmasked[ends.unsqueeze(1) - self._before])
        if self._form.index:
            parts.append(ends)
        return tuple(parts)

    def _timed(self, ends: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self._launches += 1
        if self.device.type != "cuda" or self._launches % _TIMED_EVERY != 1:
            return self.windows(ends)
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started.record(torch.cuda.current_stream(self.device))
        made = self.windows(ends)
        ended.record(torch.cuda.current_stream(self.device))
        self.events.append((started, ended, len(ends)))
        return made


def spaced_columns(columns: int) -> int:
    """From one row to the next where rows are spaced: a power of 2, from 16."""
    return max(16, 1 << (columns - 1).bit_length())


def _current_stream(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


def _delivered(
    batches: Iterator[tuple[torch.Tensor, ...]], made_on: torch.cuda.Stream | None
) -> Iterator[tuple[torch.Tensor, ...]]:
    """``batches`` for whichever stream is current when each of them is asked for."""
    for batch in batches:
        if made_on is not None:
            stream = torch.cuda.current_stream(made_on.device)
            if stream != made_on:
                stream.wait_stream(made_on)
                for part in batch:
                    part.record_stream(stream)
        yield batch


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


def _triton_gather(device: torch.device) -> Any:
    if device.type != "cuda":
        return None
    try:
        from tfa_perf.data._gather_triton import gather

        # Compiles, so that a machine without a working compiler is found out here.
        one = torch.zeros((1, 1), device=device)
        row = torch.zeros(1, dtype=torch.int64, device=device)
        gather(one, row, 1, one.clone(), one, 0, one.clone(), None, None)
    except Exception as error:  # Triton raises whatever its compiler and loader raise
        _log.warning("device gather by torch, not by one Triton kernel: %r", error)
        return None
    return gather
