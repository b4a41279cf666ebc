"""Batches of windows over a feature matrix, gathered in parallel, without copying the table.

On a CPU the windows are gathered by ``tfa_kernels.gather_windows`` into buffers that are used
again once nobody holds the batch. On another device the table is moved there once and windows
are gathered there: a step then moves nothing but the row numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tfa_kernels import gather_windows

__all__ = ["DeviceWindows", "HostWindows", "WindowBatches", "WindowLoader"]

Batch = tuple[torch.Tensor, torch.Tensor]

_POOLED_BUFFERS = 8
_probe = [np.empty(0)]
_REFERENCES_WHEN_FREE = sys.getrefcount(_probe[0])


class HostWindows:
    """Windows gathered on the CPU into recycled buffers.

    A buffer is filled again only when no tensor or array made from it is alive, so a batch
    stays valid for as long as the consumer keeps any part of it.
    """

    def __init__(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.float32],
        window: int,
        *,
        num_threads: int | None = None,
    ) -> None:
        self._X, self._y, self._window, self._num_threads = X, y, window, num_threads
        self._buffers: list[NDArray[np.float32]] = []

    def batch(self, ends: NDArray[np.int64]) -> Batch:
        """Windows that end at rows ``ends`` [b]: float32 [b, T, F] and labels [b, 1]."""
        buffer = self._free_buffer(len(ends))
        x = buffer[: len(ends)]
        gather_windows(
            self._X, ends - (self._window - 1), self._window, out=x, num_threads=self._num_threads
        )
        return torch.from_numpy(x), torch.from_numpy(self._y[ends][:, None])

    def _free_buffer(self, rows: int) -> NDArray[np.float32]:
        for i in range(len(self._buffers)):
            # A tensor made by from_numpy keeps a reference to its array for as long as any
            # view of its storage lives.
            if sys.getrefcount(self._buffers[i]) == _REFERENCES_WHEN_FREE:
                if len(self._buffers[i]) >= rows:
                    return self._buffers[i]
                del self._buffers[i]
                break
        buffer = np.empty((rows, self._window, self._X.shape[1]), dtype=np.float32)
        if len(self._buffers) < _POOLED_BUFFERS:
            self._buffers.append(buffer)
        return buffer


class DeviceWindows:
    """Windows gathered on a device that holds the whole table."""

    def __init__(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.float32],
        window: int,
        *,
        device: torch.device | str,
    ) -> None:
        rows, features = X.shape
        self._table = torch.from_numpy(X).to(device)
        self._y = torch.from_numpy(y).to(device)
        self._windows = self._table.as_strided(
            (rows - window + 1, window, features), (features, features, 1)
        )
        self._window = window

    def batch(self, ends: NDArray[np.int64]) -> Batch:
        """Windows that end at rows ``ends`` [b]: float32 [b, T, F] and labels [b, 1]."""
        rows = torch.from_numpy(ends)
        if self._table.is_cuda:
            rows = rows.pin_memory()
        rows = rows.to(self._table.device, non_blocking=True)
        x = self._windows.index_select(0, rows - (self._window - 1))
        return x, self._y.index_select(0, rows)[:, None]


class WindowBatches(Iterator[Batch]):
    """One pass over a loader's windows."""

    def __init__(
        self, source: HostWindows | DeviceWindows, ends: NDArray[np.int64], batch_size: int
    ) -> None:
        self._source, self._ends, self._batch_size = source, ends, batch_size
        self._next = 0

    def __next__(self) -> Batch:
        ends = self._ends[self._next : self._next + self._batch_size]
        if not len(ends):
            raise StopIteration
        self._next += len(ends)
        return self._source.batch(ends)


class WindowLoader:
    """Iterate over batches ``(x [b, T, F], y [b, 1])``, both float32, of windows of rows.

    Parameters
    ----------
    X : float32 [N, F], C-contiguous; a read-only memory map will do.
    y : float32 [N], label of the window that ends at each row.
    window : rows in a window, T.
    ends : int64 [W], last rows of the windows to yield, each at least ``window - 1``;
        default every row that ends a window. Windows that must not cross from one series to
        the next are left out here: see ``split_windows``.
    batch_size : windows in a batch; the last batch of a pass may hold fewer.
    shuffle : a new order every epoch, the same for the same ``seed`` and epoch.
    drop_last : leave out a last batch with fewer windows.
    device : where batches are wanted. "cpu" gathers on the CPU, anything else keeps the whole
        table on that device and gathers there.
    num_threads : threads of the CPU gather; default all that Numba uses.

    Raises
    ------
    ValueError, TypeError : an argument does not fit; the message names it.

    A yielded batch is never overwritten while any part of it is alive.
    """

    def __init__(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.float32],
        *,
        window: int,
        ends: NDArray[np.integer[Any]] | None = None,
        batch_size: int = 1024,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        num_threads: int | None = None,
    ) -> None:
        _check_table(X, y)
        for name, value, top in (
            ("window", window, len(X)),
            ("batch_size", batch_size, sys.maxsize),
        ):
            if not isinstance(value, (int, np.integer)) or not 1 <= value <= top:
                raise ValueError(f"{name}: an integer from 1 to {top} is needed, got {value!r}")
        self.batch_size, self.drop_last = int(batch_size), drop_last
        self._ends = _checked_ends(ends, window, len(X))
        self._shuffle, self._seed, self._epoch = shuffle, seed, 0
        self._source: HostWindows | DeviceWindows
        if torch.device(device).type == "cpu":
            self._source = HostWindows(X, y, int(window), num_threads=num_threads)
        else:
            self._source = DeviceWindows(X, y, int(window), device=device)

    @property
    def windows(self) -> int:
        """Windows that one pass yields."""
        return len(self) * self.batch_size if self.drop_last else len(self._ends)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; a pass does not advance the epoch by itself."""
        self._epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self._ends), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> WindowBatches:
        ends = self._ends
        if self._shuffle:
            ends = np.random.default_rng((self._seed, self._epoch)).permutation(ends)
        return WindowBatches(self._source, ends[: self.windows], self.batch_size)


def _check_table(X: Any, y: Any) -> None:
    if not isinstance(X, np.ndarray) or X.dtype != np.float32 or X.ndim != 2:
        given = f"{X.dtype} {X.shape}" if isinstance(X, np.ndarray) else type(X).__name__
        raise TypeError(f"X: a float32 array [N, F] is needed, got {given}; X.astype('float32')")
    if not X.flags.c_contiguous:
        raise ValueError("X: rows must be contiguous in memory; pass np.ascontiguousarray(X)")
    if not isinstance(y, np.ndarray) or y.dtype != np.float32 or y.shape != X.shape[:1]:
        given = f"{y.dtype} {y.shape}" if isinstance(y, np.ndarray) else type(y).__name__
        raise TypeError(f"y: a float32 array [{len(X)}] is needed, one label a row, got {given}")


def _checked_ends(ends: Any, window: int, rows: int) -> NDArray[np.int64]:
    if ends is None:
        return np.arange(window - 1, rows, dtype=np.int64)
    ends = np.asarray(ends)
    if ends.ndim != 1 or not np.issubdtype(ends.dtype, np.integer):
        raise TypeError(
            f"ends: a 1-D integer array of row numbers is needed, got {ends.dtype} {ends.shape}"
        )
    outside = (ends < window - 1) | (ends >= rows)
    if outside.any():
        at = int(np.argmax(outside))
        raise ValueError(
            f"ends[{at}] = {ends[at]}: a window of {window} rows ends at a row from "
            f"{window - 1} to {rows - 1}"
        )
    return ends.astype(np.int64)
