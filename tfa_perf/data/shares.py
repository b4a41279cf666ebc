"""How the positions of an epoch are shared among the ranks of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tfa_perf.data.window_set import checked_int

__all__ = ["Shares"]


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
        whole = self.batch_size * self.world_size
        while position < count:
            step = min(whole, count - position)
            if step < whole and self.drop_last:
                return
            first = position + step * self.rank // self.world_size
            end = position + step * (self.rank + 1) // self.world_size
            position += step
            if end > first:
                yield first, end, position

    def steps(self, count: int) -> int:
        """Steps of this rank in a whole epoch of ``count`` positions."""
        whole = self.batch_size * self.world_size
        return count // whole + (self._rest(count) > 0)

    def windows(self, count: int) -> int:
        """Positions of this rank in a whole epoch."""
        whole = self.batch_size * self.world_size
        return count // whole * self.batch_size + self._rest(count)

    def _rest(self, count: int) -> int:
        rest = 0 if self.drop_last else count % (self.batch_size * self.world_size)
        return rest * (self.rank + 1) // self.world_size - rest * self.rank // self.world_size
