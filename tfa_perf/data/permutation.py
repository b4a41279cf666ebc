"""The order in which an epoch visits its windows: any stretch of it from positions alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tfa_kernels.order import permuted_range, sides

__all__ = ["BlockOrder", "GivenOrder", "Order", "SequentialOrder", "ShuffledOrder", "permute"]

_KEYS = 8
_WORD = 0xFFFFFFFF


@lru_cache(maxsize=64)
def _round_keys(*parts: int) -> NDArray[np.uint32]:
    # splitmix64 (Steele, Lea and Flood 2014), absorbing one number after the other.
    state = 0
    keys = []
    for part in (*parts, *range(_KEYS)):
        state = (state * 3 + part + 0x9E3779B97F4A7C15) & (2**64 - 1)
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        state = z ^ (z >> 31)
        keys.append(state & _WORD)
    return np.array(keys[-_KEYS:], np.uint32)


def permute(positions: torch.Tensor, count: int, keys: NDArray[np.uint32]) -> torch.Tensor:
    """Images of int64 ``positions`` (each 0..count-1), on their device.

    The bits of `tfa_kernels.order.permuted_range`. On a GPU it waits for the device, once for
    each time that some image has to be permuted again.
    """
    left_side, right_side = sides(count)

    def mixed(value: torch.Tensor, key: int, side: int) -> torch.Tensor:
        h = value ^ key
        h = ((h ^ (h >> 16)) * 0x21F0AAAD) & _WORD
        h = ((h ^ (h >> 15)) * 0x735A2D97) & _WORD
        return ((h ^ (h >> 15)) * side) >> 32

    def network(x: torch.Tensor) -> torch.Tensor:
        left = x // right_side
        right = x - left * right_side
        for left_key, right_key in keys.reshape(-1, 2).tolist():
            left = (left + mixed(right, left_key, left_side)) % left_side
            right = (right + mixed(left, right_key, right_side)) % right_side
        return left * right_side + right

    images = network(positions)
    while bool((outside := images >= count).any()):
        images = torch.where(outside, network(images), images)
    return images


class Order(Protocol):
    """Window numbers in some order; ``windows(start, stop)`` is a stretch of it, int64."""

    @property
    def count(self) -> int: ...

    def windows(self, start: int, stop: int) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class SequentialOrder:
    """0, 1, 2, ..."""

    count: int

    def windows(self, start: int, stop: int) -> NDArray[np.int64]:
        return np.arange(start, stop, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class GivenOrder:
    """The numbers of an array, which a sampler gave."""

    numbers: NDArray[np.int64]

    @property
    def count(self) -> int:
        return len(self.numbers)

    def windows(self, start: int, stop: int) -> NDArray[np.int64]:
        return self.numbers[start:stop]


@dataclass(frozen=True)
class ShuffledOrder:
    """A permutation that depends on ``seed``, ``epoch`` and ``count`` alone."""

    count: int
    seed: int
    epoch: int

    def windows(self, start: int, stop: int) -> NDArray[np.int64]:
        return permuted_range(start, stop, self.count, _round_keys(self.seed, self.epoch))

    def windows_at(self, positions: torch.Tensor) -> torch.Tensor:
        """Windows at int64 ``positions``, computed on their device."""
        return permute(positions, self.count, _round_keys(self.seed, self.epoch))


@dataclass(frozen=True)
class BlockOrder:
    """A shuffle that reads few places of the table at a time.

    Blocks of ``block`` consecutive windows are shuffled, then the windows of every ``group``
    blocks in a row among themselves: ``group * block`` positions touch ``group`` blocks. Where
    the blocks are cut changes with the epoch.
    """

    count: int
    seed: int
    epoch: int
    block: int
    group: int

    def windows(self, start: int, stop: int) -> NDArray[np.int64]:
        parts = [
            self._in_group(g, max(start - first, 0), min(stop, last) - first)
            for g, first, last in self.groups(start, stop)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def groups(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Number, first position and end of each group that holds a position in start..stop-1."""
        span = self.block * self.group
        for g in range(start // span, -(-stop // span)):
            yield g, g * span, min((g + 1) * span, self.count)

    def block_starts(self, g: int) -> NDArray[np.int64]:
        """First windows of the blocks of group ``g``, before `rotation`; the leftover is last."""
        whole = self.count // self.block
        first, last = g * self.group, min((g + 1) * self.group, whole)
        keys = _round_keys(self.seed, self.epoch, 1)
        starts = permuted_range(first, last, whole, keys) * self.block
        if self.count % self.block and last == whole:
            starts = np.append(starts, whole * self.block)
        return starts

    @property
    def rotation(self) -> int:
        """Windows by which the cuts between blocks are moved, round the end."""
        return int(_round_keys(self.seed, self.epoch, 2)[0]) * self.count >> 32

    def _in_group(self, g: int, start: int, stop: int) -> NDArray[np.int64]:
        span = self.block * self.group
        size = min(span, self.count - g * span)
        slots = permuted_range(start, stop, size, _round_keys(self.seed, self.epoch, 3, g))
        blocks, offsets = np.divmod(slots, self.block)
        windows = self.block_starts(g)[blocks] + offsets + self.rotation
        return np.where(windows >= self.count, windows - self.count, windows)
