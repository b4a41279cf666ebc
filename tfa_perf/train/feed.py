"""Where a captured step reads its windows: memory that is filled before each replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tfa_perf.data.loader import WindowLoader

__all__ = ["BatchFeed", "Feed", "Resident", "RowFeed", "resident"]

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Resident:
    """A loader's table on a device: ``gather`` maps last rows int64 [b] there to x and y."""

    gather: Callable[[Tensor], tuple[Tensor, Tensor]]
    row_batches: Callable[[], Iterator[NDArray[np.int64]]]
    """Starts a pass and yields the last rows of each batch's windows, on the host."""


def resident(loader: Any) -> Resident | None:
    """The table of ``loader`` where it keeps one on a device, else None."""
    if not isinstance(loader, WindowLoader) or loader.gather_on_device is None:
        return None
    windows = loader.gather_on_device

    def gather(rows: Tensor) -> tuple[Tensor, Tensor]:
        x, y, *_ = windows(rows)
        return x, y

    return Resident(gather, loader.row_batches)


class Feed(Protocol):
    """Batches of one size at fixed addresses, padded where a group holds fewer windows.

    ``fill`` takes a group, and the windows of all ranks where there are several, and returns the
    number of windows; ``batches`` then computes x, y and the weights of the windows (1 / windows
    of all, and 0 for padding) from those addresses alone. ``fits`` says whether a group has the
    sizes, dtypes and shapes of this feed. ``capacity`` is the number of windows with padding,
    ``windows`` that of all ranks without, float32 on the device.
    """

    capacity: int
    windows: Tensor

    def fits(self, group: Sequence[Any]) -> bool: ...
    def fill(self, group: Sequence[Any], of_all: int | None = None) -> int: ...
    def batches(self) -> Iterable[Batch]: ...


class RowFeed:
    """Row numbers travel; windows are gathered in the step, from a table on the device."""

    def __init__(
        self, source: Resident, batch_size: int, batches: int, device: torch.device
    ) -> None:
        self._gather, self._batch_size = source.gather, batch_size
        self.capacity = batches * batch_size
        # The row numbers and, as float32, their weights and the windows of all: one copy for them.
        numbers = self.capacity // 2 + 1
        self._sent = torch.zeros(self.capacity + numbers, dtype=torch.int64, device=device)
        self._rows, rest = self._sent.split([self.capacity, numbers])
        rest = rest.view(torch.float32)
        self._weights, self.windows = rest[: self.capacity].unsqueeze(1), rest[self.capacity]

    def fits(self, group: Sequence[NDArray[np.int64]]) -> bool:
        return sum(map(len, group)) <= self.capacity

    def fill(self, group: Sequence[NDArray[np.int64]], of_all: int | None = None) -> int:
        own = sum(map(len, group))
        sent = torch.empty(len(self._sent), dtype=torch.int64, pin_memory=self._sent.is_cuda)
        rows, rest = np.split(sent.numpy(), [self.capacity])
        np.concatenate(group, out=rows[:own])
        rows[own:] = rows[0]
        weights, windows = np.split(rest.view(np.float32)[: self.capacity + 1], [self.capacity])
        windows[:] = of_all or own
        weights[:own], weights[own:] = 1 / (of_all or own), 0
        self._sent.copy_(sent, non_blocking=True)
        return own

    def batches(self) -> Iterator[Batch]:
        for ends, weight in _split(self._batch_size, self._rows, self._weights):
            yield *self._gather(ends), weight


class BatchFeed:
    """Batches of any loader, copied to where the step reads them."""

    def __init__(
        self,
        example: tuple[Tensor, Tensor],
        batch_size: int,
        batches: int,
        device: torch.device,
    ) -> None:
        x, y = example
        self._batch_size = batch_size
        self.capacity = batches * batch_size
        self._x = x.new_zeros((self.capacity, *x.shape[1:]), device=device)
        self._y = y.new_zeros((self.capacity, *y.shape[1:]), device=device)
        self._weights = torch.zeros((self.capacity, 1), device=device)
        self.windows = torch.zeros((), device=device)

    def fits(self, group: Sequence[tuple[Tensor, Tensor]]) -> bool:
        return sum(len(x) for x, _ in group) <= self.capacity and all(
            (given.shape[1:], given.dtype) == (own.shape[1:], own.dtype)
            for batch in group
            for given, own in zip(batch, (self._x, self._y), strict=True)
        )

    def fill(self, group: Sequence[tuple[Tensor, Tensor]], of_all: int | None = None) -> int:
        first = 0
        for x, y in group:
            end = first + len(x)
            self._x[first:end].copy_(x, non_blocking=True)
            self._y[first:end].copy_(y, non_blocking=True)
            first = end
        # A weight of zero does not silence a NaN left over from an earlier group.
        self._x[first:].zero_()
        self._y[first:].zero_()
        self._weights[:first] = 1 / (of_all or first)
        self._weights[first:] = 0
        self.windows.fill_(of_all or first)
        return first

    def batches(self) -> Iterator[Batch]:
        yield from _split(self._batch_size, self._x, self._y, self._weights)


def _split(size: int, *tensors: Tensor) -> Iterator[Any]:
    return zip(*(t.split(size) for t in tensors), strict=True)
