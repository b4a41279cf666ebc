"""When a validation metric has stopped improving."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["EarlyStopping"]


class EarlyStopping:
    """Keeps the lowest value seen, and says when ``patience`` values in a row did not beat it.

    With ``patience`` None it never says so. A NaN never improves.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self.best, self._waited = math.inf, 0

    def update(self, value: float) -> bool:
        """Take the next value; whether it is the best so far."""
        improved = value < self.best
        self._waited = 0 if improved else self._waited + 1
        if improved:
            self.best = value
        return improved

    @property
    def stop(self) -> bool:
        return self._patience is not None and self._waited >= self._patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self._waited = float(state["best"]), int(state["waited"])
