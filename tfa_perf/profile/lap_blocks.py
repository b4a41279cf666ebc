"""Laps of steps summed into a bounded number of blocks, from which intervals are worked out."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tfa_perf.profile.laps import OTHER, Lap

MAX_BLOCKS = 1024


@dataclass(frozen=True)
class StepBlocks:
    """Times of the measured steps in the order they ran, `size` consecutive steps a block.

    `wall_ns` holds the nanoseconds of each block, `phases_ns` the exclusive nanoseconds of each
    phase in it; the last block may hold fewer steps. Every step is in a block: a long run has
    longer blocks, not fewer steps.
    """

    size: int
    wall_ns: Sequence[int]
    phases_ns: Mapping[str, Sequence[int]] = field(default_factory=dict)


class LapSeries:
    """Laps summed as they come: one total, and at most `MAX_BLOCKS` blocks."""

    def __init__(self) -> None:
        self.steps = 0
        self._size = 1
        self._filled = 1
        self._wall = array("q")
        self._columns: dict[str, array[int]] = {}
        self._wall_s = 0.0
        self._phases: dict[str, float] = {OTHER: 0.0}
        self._calls: dict[str, int] = {}

    def append(self, lap: Lap) -> None:
        """Add the lap of the next step."""
        if self._filled == self._size:
            self._open_block()
        self.steps += 1
        self._filled += 1
        self._wall_s += lap.wall_s
        self._wall[-1] += round(lap.wall_s * 1e9)
        for name, seconds in lap.phases.items():
            self._phases[name] = self._phases.get(name, 0.0) + seconds
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = array("q", bytes(8 * len(self._wall)))
            column[-1] += round(seconds * 1e9)
        for name, count in lap.calls.items():
            self._calls[name] = self._calls.get(name, 0) + count

    def _open_block(self) -> None:
        columns = (self._wall, *self._columns.values())
        if len(self._wall) == MAX_BLOCKS:
            for column in columns:
                column[:] = array("q", map(sum, zip(column[::2], column[1::2], strict=True)))
            self._size *= 2
        for column in columns:
            column.append(0)
        self._filled = 0

    def total(self) -> Lap:
        """One lap with the summed wall clock, phases and calls."""
        return Lap(self._wall_s, dict(self._phases), dict(self._calls))

    def blocks(self) -> StepBlocks:
        """The blocks so far."""
        phases = {name: column.tolist() for name, column in self._columns.items()}
        return StepBlocks(self._size, self._wall.tolist(), phases)
