"""Where a loader is: the order that its pass follows and how far it has come in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfa_perf.data.order import Shuffle
from tfa_perf.data.window_set import checked_int

__all__ = ["Place"]


@dataclass
class Place:
    """Seed and epoch name the order; ``position`` windows of it, over all ranks, are done.

    The next pass begins at ``resume_at``.
    """

    shuffle: Shuffle
    seed: int
    epoch: int = 0
    position: int = 0
    resume_at: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of ``epoch``, or stay where the place is in it already."""
        if epoch != self.epoch:
            self.epoch, self.position, self.resume_at = epoch, 0, 0

    def begin(self) -> int:
        """The position that a pass begins at now; the one after it begins at 0."""
        self.position, self.resume_at = self.resume_at, 0
        return self.position

    def state_dict(self, windows: int) -> dict[str, Any]:
        """The place in a pass of ``windows`` windows."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "windows": windows,
        }

    def load_state_dict(self, state: dict[str, Any], windows: int) -> None:
        """Let the next pass go on at ``state``; ValueError where that is none of this loader."""
        for name, own in (("windows", windows), ("shuffle", self.shuffle)):
            if state[name] != own:
                raise ValueError(
                    f"state: was taken with {name} = {state[name]!r}, this loader has {own!r}; "
                    "make the loader with the same table and arguments"
                )
        self.epoch = checked_int("state['epoch']", state["epoch"], 0)
        self.seed = checked_int("state['seed']", state["seed"], 0)
        self.resume_at = checked_int("state['position']", state["position"], 0, windows)
        self.position = self.resume_at
