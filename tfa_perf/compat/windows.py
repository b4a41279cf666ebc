"""The legacy window data set: the report's ``SeqWindows``, with whole batches from one gather."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from tfa_kernels.windows import WindowGather
from tfa_perf.data.host_windows import BufferPool
from tfa_perf.data.mapped import reopened

__all__ = ["SeqWindows"]

_GATHERED = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16))


class SeqWindows(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Batches ``(x [b, T, F], y [b, 1])``, float32, of the windows ending at rows start .. end.

    In the order of the rows, whole batches of ``batch`` windows and a last one with what is left;
    the label of a window that ends at row i is ``y[i]``. Values are passed on as they are, NaN
    included. Unlike the legacy class, a batch that is still held is never overwritten.

    For ``DataLoader(dataset, batch_size=None, num_workers=n)``, or without one. Workers share the
    range and do not repeat it (legacy workers each yielded all of it): of n, worker w makes batches
    w, w + n, w + 2n, ..., which the DataLoader hands on in the order of the rows.

    Parameters
    ----------
    X : [N, F] numbers, a memory map included. Used without a copy if it is C-contiguous and
        float32, float64 or float16; else copied at the start.
    y : [N, 1] or [N] numbers.
    T : rows in a window.
    start, end : last rows of the first and of the last window; no window if ``end < start``.
    batch : windows in a batch.

    All six are attributes that may be set anew between two passes.

    Raises
    ------
    ValueError, TypeError : an argument does not fit; here, or where a pass begins.
    """

    def __init__(self, X: Any, y: Any, T: int, start: int, end: int, batch: int) -> None:
        self.X, self.y = _table(X), np.asarray(y)
        self.T, self.start, self.end, self.batch = T, start, end, batch
        self._check()

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self._check()
        return self._batches()

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.end < self.start:
            return
        X, y, batch, end = _table(self.X), np.asarray(self.y), self.batch, self.end
        worker = get_worker_info()
        # A worker has the processor to share with the others.
        mine, workers, threads = (worker.id, worker.num_workers, 1) if worker else (0, 1, None)
        labels = y[:, 0] if y.ndim == 2 else y
        dtype = None if X.dtype == np.float32 else np.float32
        gather = WindowGather(X, self.T, dtype=dtype, num_threads=threads)
        shape, pool = (self.T, X.shape[1]), BufferPool()
        for first in range(self.start + mine * batch, end + 1, workers * batch):
            ends = np.arange(first, min(end + 1, first + batch))
            # No name for the batch: this frame would keep its buffer in use.
            yield (
                _gathered(gather, ends - (self.T - 1), (len(ends), *shape), pool),
                torch.from_numpy(labels[ends, None].astype(np.float32)),
            )

    def _check(self) -> None:
        X, y = self.X, np.asarray(self.y)
        for name in ("T", "start", "end", "batch"):
            value = getattr(self, name)
            if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"{name}: an int is needed, got {value!r}")
        for name in ("T", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: 1 or more is needed, got {getattr(self, name)}")
        if getattr(X, "ndim", 0) != 2:
            raise ValueError(f"X: [N, F] is needed, got shape {np.shape(X)}")
        if y.ndim not in (1, 2) or (y.ndim == 2 and not y.shape[1]) or y.dtype.kind not in "biuf":
            raise ValueError(
                f"y: [N, 1] or [N] numbers are needed, got shape {y.shape} of {y.dtype}"
            )
        if self.end < self.start:
            return
        if self.start < self.T - 1:
            raise ValueError(
                f"start is {self.start}, where no window of T = {self.T} rows ends; "
                f"give {self.T - 1} or more"
            )
        rows = min(len(X), len(y))
        if self.end >= rows:
            raise ValueError(
                f"end is {self.end}, but the last row of X ({len(X)} rows) and y ({len(y)}) is "
                f"{rows - 1}"
            )

    def __getstate__(self) -> dict[str, Any]:
        """A map of a file travels to a spawned worker as the name of the file."""
        again = reopened(self.X) if isinstance(self.X, np.ndarray) else None
        return self.__dict__ | ({} if again is None else {"X": None, "_map": again})

    def __setstate__(self, state: dict[str, Any]) -> None:
        again = state.pop("_map", None)
        self.__dict__.update(state)
        if again is not None:
            self.X = np.memmap(*again)


def _gathered(
    gather: WindowGather, starts: NDArray[np.int64], shape: tuple[int, ...], pool: BufferPool
) -> torch.Tensor:
    size = 4 * math.prod(shape)
    buffer = pool.take(size)
    gather.fill(starts, buffer[:size])
    return torch.from_numpy(np.ndarray(shape, np.float32, buffer))


def _table(X: Any) -> NDArray[Any]:
    """X as the gather takes it: itself, where it fits."""
    table = np.asanyarray(X)
    if table.dtype.kind not in "biuf":
        raise TypeError(f"X: numbers are needed, got dtype {table.dtype}")
    if table.dtype not in _GATHERED:
        table = table.astype(np.float32)
    return np.ascontiguousarray(table) if not table.flags.c_contiguous else table
