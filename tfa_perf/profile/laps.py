"""What a thread did between two moments, phase by phase."""

from __future__ import annotations

from dataclasses import dataclass

OTHER = "other"
DATALOADER_WORKERS = "DataLoader workers"


@dataclass(frozen=True)
class Lap:
    """What one thread did between two cuts.

    `phases` maps each phase to its exclusive seconds and always holds ``other``, the time inside no
    phase; ``sum(phases.values()) == wall_s`` exactly. `calls` counts spans opened, per phase.
    """

    wall_s: float
    phases: dict[str, float]
    calls: dict[str, int]

    @property
    def other_s(self) -> float:
        """Seconds inside no phase."""
        return self.phases[OTHER]


# Seconds are rounded down to multiples of 2**-30 s (0.93 ns): sums and differences of such doubles
# are exact below 2**22 s, which is what makes a lap add up exactly.
_TICKS = 1 << 30


def exact_seconds(ns: int) -> float:
    """Nanoseconds as seconds whose sums and differences are exact."""
    return (ns * _TICKS // 1_000_000_000) / _TICKS
