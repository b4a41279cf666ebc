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
Group = tuple[Sequence[Any], int | None]
"""Batches of one step and, with several ranks, the windows of all of them."""

_ALIGNED = 128 // 8


@dataclass(frozen=True)
class Resident:
    """A loader's table on a device: ``gather`` maps last rows int64 [b] there to x and y."""

    gather: Callable[[Tensor], tuple[Tensor, Tensor]]
    row_batches: Callable[[], Iterator[NDArray[np.int64]]]
    """Starts a pass and yields the last rows of each batch's windows, on the host."""


def resident(loader: Any, rounded_to: torch.dtype | None = None) -> Resident | None:
    """The table of ``loader`` where it keeps one on a device, else None.

    x has the loader's dtype, or is ``rounded_to`` what a product at the model's beginning needs.
    """
    if not isinstance(loader, WindowLoader):
        return None
    windows = loader.gather_on_device
    if rounded_to is not None:
        windows = loader.operands_on_device(rounded_to)
    if windows is None:
        return None

    def gather(rows: Tensor) -> tuple[Tensor, Tensor]:
        x, y, *_ = windows(rows)
        return x, y

    return Resident(gather, loader.row_batches)


class Feed(Protocol):
    """Batches of steps at fixed addresses, padded where a step has fewer windows.

    ``fill`` takes the steps to come, with their learning rates where those travel too, and returns
    the number of windows of each on this rank. ``batches(i)`` then computes x, y and the weights of
    the windows (1 / windows of all, and 0 for padding) of step ``i`` from those addresses alone.
    ``fits`` says whether a step's batches have the sizes, dtypes and shapes of this feed.
    ``capacity`` is the number of windows of a step with padding; ``windows`` are those of all ranks
    without, ``rates`` the learning rates, both float32 [steps] on the device.
    """

    capacity: int
    windows: Tensor
    rates: Tensor

    def fits(self, group: Sequence[Any]) -> bool: ...
    def fill(self, steps: Sequence[Group], rates: Sequence[float] | None = None) -> list[int]: ...
    def batches(self, step: int) -> Iterable[Batch]: ...


class RowFeed:
    """Row numbers travel; windows are gathered in the step, from a table on the device."""

    def __init__(
        self,
        source: Resident,
        batch_size: int,
        batches: int,
        device: torch.device,
        steps: int = 1,
    ) -> None:
        self._gather, self._batch_size = source.gather, batch_size
        self.capacity = batches * batch_size
        # Of each step the row numbers and, as float32, their weights, the windows of all and the
        # learning rate: one copy for all steps.
        numbers = -(-(self.capacity + 2) // 2)
        # Steps must be alike in how their tensors are aligned, by which kernels are chosen.
        each = -(-(self.capacity + numbers) // _ALIGNED) * _ALIGNED
        self._sent = torch.zeros((steps, each), dtype=torch.int64, device=device)
        self._rows = self._sent[:, : self.capacity]
        rest = self._sent.view(torch.float32)[:, 2 * self.capacity :]
        self._weights = rest[:, : self.capacity, None]
        self.windows, self.rates = rest[:, self.capacity], rest[:, self.capacity + 1]

    def fits(self, group: Sequence[NDArray[np.int64]]) -> bool:
        return sum(map(len, group)) <= self.capacity

    def fill(self, steps: Sequence[Group], rates: Sequence[float] | None = None) -> list[int]:
        sent = torch.empty(
            (len(steps), self._sent.shape[1]), dtype=torch.int64, pin_memory=self._sent.is_cuda
        )
        rows = sent.numpy()
        rest = rows.view(np.float32)[:, 2 * self.capacity :]
        weights, windows = rest[:, : self.capacity], rest[:, self.capacity]
        own = [sum(map(len, group)) for group, _ in steps]
        windows[:] = [of_all or n for n, (_, of_all) in zip(own, steps, strict=True)]
        weights[:] = 1 / windows[:, None]
        for i, (group, _) in enumerate(steps):
            np.concatenate(group, out=rows[i, : own[i]])
            rows[i, own[i] : self.capacity] = rows[i, 0]
            weights[i, own[i] :] = 0
        if rates is not None:
            rest[:, self.capacity + 1] = rates[: len(steps)]
        self._sent[: len(steps)].copy_(sent, non_blocking=True)
        return own

    def batches(self, step: int) -> Iterator[Batch]:
        for ends, weight in _split(self._batch_size, self._rows[step], self._weights[step]):
            yield *self._gather(ends), weight


class BatchFeed:
    """Batches of any loader, copied to where the step reads them: one step at a time."""

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
        self.windows = torch.zeros(1, device=device)
        self.rates = torch.zeros(1, device=device)

    def fits(self, group: Sequence[tuple[Tensor, Tensor]]) -> bool:
        return sum(len(x) for x, _ in group) <= self.capacity and all(
            (given.shape[1:], given.dtype) == (own.shape[1:], own.dtype)
            for batch in group
            for given, own in zip(batch, (self._x, self._y), strict=True)
        )

    def fill(self, steps: Sequence[Group], rates: Sequence[float] | None = None) -> list[int]:
        ((group, of_all),) = steps
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
        if rates is not None:
            self.rates.fill_(rates[0])
        return [first]

    def batches(self, step: int) -> Iterator[Batch]:
        yield from _split(self._batch_size, self._x, self._y, self._weights)


def _split(size: int, *tensors: Tensor) -> Iterator[Any]:
    return zip(*(t.split(size) for t in tensors), strict=True)
