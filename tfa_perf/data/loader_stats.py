"""What a loader measures of itself, beside the speed of a plain copy on the same machine."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tfa_perf.data.sent_windows import Sent

__all__ = ["Meter", "copy_speed"]

_REPEATS = 7
# Every so many batches of a table on a device are timed by events.
_EVENT_EVERY, _KEPT_EVENTS = 16, 64


class Meter:
    """Counts and seconds of the batches that a loader makes, and of waiting for them."""

    def __init__(self, mode: str, device: torch.device) -> None:
        self._mode, self._device = mode, device
        self._batches = self._windows = self._bytes = self._largest = 0
        self._seconds = 0.0
        self._timed_by_device = mode == "device-resident" and device.type == "cuda"
        self._events: deque[tuple[torch.cuda.Event, torch.cuda.Event, int]] = deque(
            maxlen=_KEPT_EVENTS
        )
        self.waited = 0.0

    def timed(self, batches: Iterator[Any]) -> Any:
        """The next of ``batches``, counted and timed."""
        by_device = self._timed_by_device and self._batches % _EVENT_EVERY == 1
        if by_device:
            started = torch.cuda.Event(enable_timing=True)
            started.record(torch.cuda.current_stream(self._device))
        start = time.perf_counter()
        batch = next(batches)
        self._seconds += time.perf_counter() - start
        x = batch.tensors[0] if isinstance(batch, Sent) else batch[0]
        if by_device:
            ended = torch.cuda.Event(enable_timing=True)
            ended.record(torch.cuda.current_stream(self._device))
            self._events.append((started, ended, x.nbytes))
        self._batches += 1
        self._windows += len(x)
        self._bytes += x.nbytes
        self._largest = max(self._largest, x.nbytes)
        return batch

    def summary(self) -> dict[str, Any]:
        """The dictionary that `WindowLoader.stats` describes."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        speed = self._bytes / self._seconds if self._seconds else 0.0
        if self._events:
            milliseconds = sum(start.elapsed_time(end) for start, end, _ in self._events)
            speed = sum(size for *_, size in self._events) / milliseconds * 1e3
        sent = self._mode in ("streamed rows", "pinned windows")
        memcpy = copy_speed(max(self._largest, 1), self._device, from_host=sent)
        return {
            "mode": self._mode,
            "batches": self._batches,
            "windows": self._windows,
            "bytes": self._bytes,
            "seconds": self._seconds,
            "wait_seconds": self.waited,
            "bytes_per_second": speed,
            "memcpy_bytes_per_second": memcpy,
            "memcpy_percent": 100 * speed / memcpy,
        }


def copy_speed(size: int, device: torch.device, *, from_host: bool) -> float:
    """Bytes per second of a plain copy of ``size`` bytes on ``device``, or onto it.

    torch's own copy between the same two buffers, the median of a few; it uses torch's threads on
    a CPU. On CUDA this waits for the device.
    """
    cuda = device.type == "cuda"
    source = torch.zeros(
        size,
        dtype=torch.uint8,
        device="cpu" if from_host else device,
        pin_memory=cuda and from_host,
    )
    target = torch.zeros(size, dtype=torch.uint8, device=device)
    wait: Callable[[], None] = (lambda: torch.cuda.synchronize(device)) if cuda else (lambda: None)
    times = []
    for _ in range(_REPEATS):
        wait()
        start = time.perf_counter()
        target.copy_(source, non_blocking=True)
        wait()
        times.append(time.perf_counter() - start)
    return size / sorted(times)[_REPEATS // 2]
