"""Times of the phases on the device, as the profiled process writes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceTimes:
    """Seconds on the device per phase, summed over `steps` of the run's measured steps.

    `untimed` counts spans left out: begun and ended on different streams, or cut by a capture.
    `problem` says why recording ended early; empty when it did not.
    """

    steps: int
    phases: dict[str, float]
    untimed: int = 0
    problem: str = ""

    def ms_per_step(self, name: str) -> float | None:
        """Device time of a phase in ms per step; None when it was not timed."""
        if not self.steps or name not in self.phases:
            return None
        return 1e3 * self.phases[name] / self.steps
