"""Windows of a table that stays in main memory, sent to a device batch by batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tfa_perf.data.device_windows import DeviceGather, to_device
from tfa_perf.data.host_windows import HostWindows, zero_nans
from tfa_perf.data.table import Table, WindowForm

__all__ = ["PinnedRing", "Sent", "SentWindows"]

_BUFFERS = 3


class Sent(NamedTuple):
    """Tensors on a device and, on CUDA, the event behind the copies that fill them."""

    tensors: tuple[torch.Tensor, ...]
    ready: torch.cuda.Event | None


class PinnedRing:
    """Page-locked buffers that copies to a device start from, each used again after its copy.

    Only the ring holds the buffers. On CUDA, copies run on a stream of the ring's own; on other
    devices they are plain copies.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._cuda else None
        self._buffers = [torch.empty(0, dtype=torch.uint8) for _ in range(_BUFFERS)]
        self._copied: list[torch.cuda.Event | None] = [None] * _BUFFERS
        self._next = 0

    def copying(self) -> AbstractContextManager[object]:
        """Inside it, work on the device is put on the ring's stream."""
        return torch.cuda.stream(self._stream) if self._cuda else nullcontext()

    def event(self) -> torch.cuda.Event | None:
        """An event behind everything put on the ring's stream so far."""
        return self._stream.record_event() if self._stream is not None else None

    def send(
        self, shape: tuple[int, ...], dtype: torch.dtype, fill: Callable[[NDArray[np.uint8]], None]
    ) -> torch.Tensor:
        """A new tensor on the device with what ``fill`` writes into as many bytes."""
        size = int(np.prod(shape)) * dtype.itemsize
        slot = self._next
        self._next = (slot + 1) % _BUFFERS
        copied = self._copied[slot]
        if copied is not None:
            copied.synchronize()
        if len(self._buffers[slot]) < size:
            self._buffers[slot] = torch.empty(size, dtype=torch.uint8, pin_memory=self._cuda)
        staged = self._buffers[slot][:size]
        fill(staged.numpy())
        sent = torch.empty(shape, dtype=dtype, device=self._device)
        sent.copy_(staged.view(dtype).view(shape), non_blocking=self._cuda)
        self._copied[slot] = self.event()
        return sent


class SentWindows:
    """Windows sent to a device through a ring of pinned buffers.

    Where the windows of a batch overlap, as they do in order, the rows that they cover are sent
    once and cut into windows there; otherwise the windows are gathered here.
    """

    def __init__(
        self, table: Table, form: WindowForm, device: torch.device, num_threads: int | None = None
    ) -> None:
        self.device, self._table, self._form = device, table, form
        self._host = HostWindows(table, form, num_threads=num_threads)
        self._gather = DeviceGather(device, form.window, form.dtype, table.shift, table.factor)
        self._ring = PinnedRing(device)
        self._lock = threading.Lock()

    def batches(self, ends: NDArray[np.int64], sizes: Sequence[int]) -> Iterator[Sent]:
        """Batches of ``sizes`` windows each, which end at rows ``ends``, one after the other."""
        return map(self.batch, np.split(ends, np.cumsum(sizes)[:-1]))

    def batch(self, ends: NDArray[np.int64]) -> Sent:
        """Windows that end at rows ``ends`` [b], on their way; `deliver` makes them a batch."""
        form = self._form
        low, high = int(ends.min()) - (form.window - 1), int(ends.max()) + 1
        with self._lock, self._ring.copying():
            # The rows, unless there are gaps between the windows that make them the larger part.
            if 2 * (high - low) <= len(ends) * form.window:
                x, y = self._cut_there(ends, low, high)
            else:
                shape = (len(ends), form.window, self._table.columns)
                x = self._ring.send(shape, form.dtype, partial(self._host.fill, ends))
                y = to_device(self._host.labels(ends), self.device)
            parts = [x, y]
            if form.unmasked is not None:
                zero_nans(x)
                parts.append(to_device(self._host.mask(ends), self.device))
            if form.index:
                parts.append(to_device(torch.from_numpy(ends), self.device))
            return Sent(tuple(parts), self._ring.event())

    def _cut_there(
        self, ends: NDArray[np.int64], low: int, high: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        def copy_rows(out: NDArray[np.uint8]) -> None:
            np.copyto(out, np.asarray(self._table.X[low:high]).reshape(-1).view(np.uint8))

        shape = (high - low, self._table.columns)
        rows = self._ring.send(shape, self._table.dtype, copy_rows)
        labels = np.array(self._table.y[low : high + self._form.horizon])
        return self._gather(
            rows,
            to_device(torch.from_numpy(ends - low), self.device),
            to_device(torch.from_numpy(labels), self.device),
            self._form.horizon,
        )

    def deliver(self, sent: Sent) -> tuple[torch.Tensor, ...]:
        """The batch, for the stream that is current in the calling thread."""
        if sent.ready is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(sent.ready)
            for tensor in sent.tensors:
                # Or its memory would go to the ring's next batch while this stream still reads.
                tensor.record_stream(stream)
        return sent.tensors
