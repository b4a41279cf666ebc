"""Windows gathered on the CPU, into buffers that are used again once nobody holds the batch."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from tfa_kernels import gather_windows
from tfa_kernels.windows import WindowGather
from tfa_perf.data.prefetch import made_ahead
from tfa_perf.data.table import Table, WindowForm, array_dtype, as_tensor

__all__ = ["BufferPool", "HostWindows"]

_POOLED_BUFFERS = 8
_probe = [np.empty(0)]
_REFERENCES_WHEN_FREE = sys.getrefcount(_probe[0])


class BufferPool:
    """Byte arrays that are handed out again when no array or tensor made of them is alive."""

    def __init__(self) -> None:
        self._buffers: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> NDArray[np.uint8]:
        """An array of at least ``size`` bytes that nobody else holds, of undefined content."""
        # Until the caller holds it: two passes over one loader take from two threads.
        with self._lock:
            for i in range(len(self._buffers)):
                # A tensor made by from_numpy keeps a reference to its array for as long as any
                # view of its storage lives.
                if sys.getrefcount(self._buffers[i]) == _REFERENCES_WHEN_FREE:
                    if len(self._buffers[i]) >= size:
                        return self._buffers[i]
                    del self._buffers[i]
                    break
            buffer = np.empty(size, np.uint8)
            if len(self._buffers) < _POOLED_BUFFERS:
                self._buffers.append(buffer)
            return buffer

    def clear(self) -> None:
        """Forget the buffers; those that somebody holds live on with their holder."""
        self._buffers.clear()


class HostWindows:
    """Windows of a table in main memory, gathered into memory of this process.

    Parameters
    ----------
    pinned : page-locked memory, from torch's pool: torch gives it out again only after copies
        from it to a device have completed.
    num_threads : of the gather; default all that Numba uses. One where a batch is made ahead for a
        consumer that computes on the CPU, as is assumed where nothing is pinned.
    """

    def __init__(
        self,
        table: Table,
        form: WindowForm,
        *,
        pinned: bool = False,
        num_threads: int | None = None,
    ) -> None:
        assert isinstance(table.X, np.ndarray) and isinstance(table.y, np.ndarray)
        self.device = torch.device("cpu")
        self._table, self._form, self._y = table, form, np.ascontiguousarray(table.y)
        converted = table.shift is not None or form.dtype is not table.dtype
        make = partial(
            WindowGather,
            table.X,
            form.window,
            dtype=array_dtype(form.dtype) if converted else None,
            shift=table.shift,
            factor=table.factor,
            labels=self._y,
            horizon=form.horizon,
        )
        self._gather = make(num_threads=num_threads)
        # Threads of two OpenMP teams that wait by spinning take the cores from each other.
        self._gather_ahead = self._gather if pinned else make(num_threads=1)
        plain = not (converted or pinned) and form.unmasked is None
        self._overlapping = form.overlapping and plain
        self._dtype, self._pinned = array_dtype(form.dtype), pinned
        self._window_bytes = form.window * table.columns * self._dtype.itemsize
        self._pool = BufferPool()

    def batches(
        self, ends: NDArray[np.int64], sizes: Sequence[int]
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """Batches of ``sizes`` windows each, which end at rows ``ends``, one after the other."""
        # Once for all of them: what is done once a batch runs with cold caches.
        starts = self._gather.checked(ends - (self._form.window - 1))
        done = 0
        for size in sizes:
            here = slice(done, done + size)
            # No name for the batch: this frame would keep its buffer in use.
            yield self._batch(ends[here], starts[here])
            done += size

    def _batch(
        self, ends: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> tuple[torch.Tensor, ...]:
        if self._overlapping and _in_a_row(starts):
            parts = [self._views(starts), self.labels(ends)]
        else:
            parts = self._copies(starts)
        if self._form.unmasked is not None:
            mask = self.mask(ends)
            if not mask.all():
                zero_nans(parts[0])
            parts.append(self._own(mask))
        if self._form.index:
            parts.append(self._own(torch.from_numpy(ends)))
        return tuple(parts)

    def _copies(self, starts: NDArray[np.int64]) -> list[torch.Tensor]:
        """x and y of windows gathered from wherever they are."""
        shape = (len(starts), self._form.window, self._table.columns)
        y = np.empty((len(starts), 1), self._y.dtype)
        labels = y.reshape(-1).view(np.uint8)
        gather = self._gather_ahead if made_ahead() else self._gather
        if self._pinned:
            x = torch.empty(shape, dtype=self._form.dtype, pin_memory=True)
            gather.fill_checked(starts, x.view(-1).view(torch.uint8).numpy(), labels)
        else:
            size = len(starts) * self._window_bytes
            buffer = self._pool.take(size)
            gather.fill_checked(starts, buffer if len(buffer) == size else buffer[:size], labels)
            x = as_tensor(np.ndarray(shape, self._dtype, buffer), self._form.dtype)
        return [x, self._own(torch.from_numpy(y))]

    def _views(self, starts: NDArray[np.int64]) -> torch.Tensor:
        """x of windows that begin row after row, over one copy of their rows."""
        rows = self._table.X[starts[0] : starts[-1] + self._form.window]
        copy = np.ndarray(rows.shape, self._dtype, self._pool.take(rows.nbytes))
        np.copyto(copy, rows)
        columns = self._table.columns
        shape = (len(starts), self._form.window, columns)
        return as_tensor(copy, self._form.dtype).as_strided(shape, (columns, columns, 1))

    def fill(self, ends: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Gather the windows into the bytes ``out`` of a batch of the form's dtype."""
        self._gather.fill(ends - (self._form.window - 1), out)

    def labels(self, ends: NDArray[np.int64]) -> torch.Tensor:
        """y [b, 1]."""
        # Rows that a plan gave are in range: "clip" is the mode that does not check it again.
        return torch.from_numpy(self._y.take(ends + self._form.horizon, mode="clip")[:, None])

    def mask(self, ends: NDArray[np.int64]) -> torch.Tensor:
        """bool [b, T], rows without a NaN."""
        assert self._form.unmasked is not None
        window = self._form.window
        rows = gather_windows(
            self._form.unmasked[:, None], ends - (window - 1), window, num_threads=1
        )
        return torch.from_numpy(rows[:, :, 0])

    def _own(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if self._pinned else tensor

    def close(self) -> None:
        """Give the buffers back to the system as soon as nobody holds a batch in them."""
        self._pool.clear()


def _in_a_row(starts: NDArray[np.int64]) -> bool:
    apart = np.diff(starts)
    return len(apart) > 0 and bool((apart == 1).all())


def zero_nans(x: torch.Tensor) -> None:
    """Write 0 over every NaN of ``x``; infinities stay."""
    x.nan_to_num_(nan=0.0, posinf=float("inf"), neginf=float("-inf"))
