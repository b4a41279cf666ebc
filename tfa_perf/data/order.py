"""The order in which an epoch visits its windows, any stretch of it from positions alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tfa_kernels.order import permuted_range
from tfa_perf.data.prefetch import made_ahead
from tfa_perf.data.window_set import checked_int

__all__ = [
    "BlockOrder",
    "GivenOrder",
    "Order",
    "SequentialOrder",
    "Shares",
    "Shuffle",
    "ShuffledOrder",
    "order_of",
]

Shuffle = bool | Literal["block"]

# Rows that a shuffle in blocks reads from at a time: large enough for the disk, small beside RAM.
_BLOCK_BYTES, _BLOCKS = 1 << 20, 64
# Batches whose windows are worked out in one go.
_STEPS_TOGETHER = 16
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
    num_threads: int | None = None

    def windows(self, start: int, stop: int) -> NDArray[np.int64]:
        keys = _round_keys(self.seed, self.epoch)
        return permuted_range(start, stop, self.count, keys, num_threads=_threads(self.num_threads))


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
    num_threads: int | None = None

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

    def group_of(self, position: int) -> int:
        return position // (self.block * self.group)

    def blocks(self, g: int) -> Iterator[tuple[int, int]]:
        """First and end of the runs of windows that group ``g`` holds."""
        for start in self.block_starts(g).tolist():
            first = start + self.rotation
            end = min(start + self.block, self.count) + self.rotation
            if first < self.count < end:
                yield first, self.count
                first = self.count
            wrap = self.count if first >= self.count else 0
            yield first - wrap, end - wrap

    @property
    def rotation(self) -> int:
        """Windows by which the cuts between blocks are moved, round the end."""
        return int(_round_keys(self.seed, self.epoch, 2)[0]) * self.count >> 32

    def _in_group(self, g: int, start: int, stop: int) -> NDArray[np.int64]:
        span = self.block * self.group
        size = min(span, self.count - g * span)
        keys = _round_keys(self.seed, self.epoch, 3, g)
        slots = permuted_range(start, stop, size, keys, num_threads=_threads(self.num_threads))
        blocks, offsets = np.divmod(slots, self.block)
        windows = self.block_starts(g)[blocks] + offsets + self.rotation
        return np.where(windows >= self.count, windows - self.count, windows)


def _threads(num_threads: int | None) -> int | None:
    # Made ahead, there is time; and the consumer's threads would wait for these.
    return 1 if made_ahead() else num_threads


def order_of(
    shuffle: Shuffle, count: int, seed: int, epoch: int, row_bytes: int, num_threads: int
) -> Order:
    """The order of ``count`` windows; from one to the next it is ``row_bytes`` in the table."""
    if shuffle == "block":
        block = max(1, _BLOCK_BYTES // row_bytes)
        return BlockOrder(count, seed, epoch, block, _BLOCKS, num_threads)
    if shuffle:
        return ShuffledOrder(count, seed, epoch, num_threads)
    return SequentialOrder(count)


@dataclass(frozen=True)
class Shares:
    """Each step takes the next ``batch_size * world_size`` positions, one share a rank in order.

    A last step with fewer positions is cut into shares that differ by at most one. So where a run
    is in an epoch is one number, which does not depend on the world size.
    """

    batch_size: int
    drop_last: bool
    rank: int
    world_size: int

    @staticmethod
    def of(batch_size: int, drop_last: bool, rank: int | None, world_size: int | None) -> Shares:
        """Check the arguments; both of torch.distributed's where neither is given."""
        if (rank is None) != (world_size is None):
            raise ValueError("rank, world_size: give both or neither")
        if rank is None or world_size is None:
            distributed = torch.distributed
            started = distributed.is_available() and distributed.is_initialized()
            rank = distributed.get_rank() if started else 0
            world_size = distributed.get_world_size() if started else 1
        world_size = checked_int("world_size", world_size, 1)
        rank = checked_int("rank", rank, 0, world_size - 1)
        return Shares(batch_size, bool(drop_last), rank, world_size)

    def from_position(self, position: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Steps of this rank: first position, end, and where the step ends over all ranks."""
        return (cut for cut in self._cuts(position, count) if cut[1] > cut[0])

    def sizes(self, position: int, count: int) -> Iterator[tuple[int, int]]:
        """Positions of each step on this rank, which may be 0, and over all ranks."""
        for first, end, after in self._cuts(position, count):
            yield end - first, after - position
            position = after

    def steps(self, count: int) -> int:
        """Steps of this rank in a whole epoch of ``count`` positions."""
        whole = self.batch_size * self.world_size
        return count // whole + (self._rest(count) > 0)

    def steps_of_all(self, count: int) -> int:
        """Steps in a whole epoch that have a position on any rank."""
        whole = self.batch_size * self.world_size
        return count // whole if self.drop_last else -(-count // whole)

    def windows(self, count: int) -> int:
        """Positions of this rank in a whole epoch."""
        whole = self.batch_size * self.world_size
        return count // whole * self.batch_size + self._rest(count)

    def _cuts(self, position: int, count: int) -> Iterator[tuple[int, int, int]]:
        whole = self.batch_size * self.world_size
        while position < count:
            step = min(whole, count - position)
            if step < whole and self.drop_last:
                return
            first = position + step * self.rank // self.world_size
            end = position + step * (self.rank + 1) // self.world_size
            position += step
            yield first, end, position

    def groups(
        self, order: Order, start: int
    ) -> Iterator[tuple[list[tuple[int, int, int]], NDArray[np.int64]]]:
        """Steps from position ``start`` on, several at a time, and their windows."""
        steps = self.from_position(start, order.count)
        while some := list(islice(steps, _STEPS_TOGETHER)):
            parts = [order.windows(first, end) for first, end in _merged(some)]
            yield some, parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _rest(self, count: int) -> int:
        rest = 0 if self.drop_last else count % (self.batch_size * self.world_size)
        return rest * (self.rank + 1) // self.world_size - rest * self.rank // self.world_size


def _merged(steps: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Ranges of positions that the steps take, in order, neighbours joined."""
    ranges: list[tuple[int, int]] = []
    for first, end, _ in steps:
        if ranges and ranges[-1][1] == first:
            ranges[-1] = ranges[-1][0], end
        else:
            ranges.append((first, end))
    return ranges
