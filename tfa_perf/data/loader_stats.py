"""What a loader measures of itself, beside the speed of a plain copy on the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from tfa_perf.data.device_windows import Timed

__all__ = ["Meter", "copy_speed"]

T = TypeVar("T")

_REPEATS = 7


class Meter:
    """Counts and seconds of the batches that a loader makes, and of waiting for them.

    ``events`` hold pairs of CUDA events around the making of so many windows, where a device does
    that work by itself.
    """

    def __init__(
        self, mode: str, device: torch.device, window_bytes: int, events: Sequence[Timed] = ()
    ) -> None:
        self._mode, self._device, self._window_bytes = mode, device, window_bytes
        self._events = events
        self._batches = self._windows = self._largest = 0
        self._seconds = 0.0
        self.waited = 0.0

    def timed(self, batches: Iterator[T], windows: int) -> T:
        """The next of ``batches``, which holds so many windows, counted and timed."""
        start = time.perf_counter()
        batch = next(batches)
        self._seconds += time.perf_counter() - start
        self._batches += 1
        self._windows += windows
        self._largest = max(self._largest, windows)
        return batch

    def summary(self) -> dict[str, Any]:
        """The dictionary that `WindowLoader.stats` describes."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        size = self._windows * self._window_bytes
        speed = size / self._seconds if self._seconds else 0.0
        if self._events:
            milliseconds = sum(start.elapsed_time(end) for start, end, _ in self._events)
            windows = sum(count for *_, count in self._events)
            speed = windows * self._window_bytes / milliseconds * 1e3
        sent = self._mode in ("streamed rows", "pinned windows")
        memcpy = copy_speed(
            max(self._largest * self._window_bytes, 1), self._device, from_host=sent
        )
        return {
            "mode": self._mode,
            "batches": self._batches,
            "windows": self._windows,
            "bytes": size,
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
