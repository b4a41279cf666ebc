"""An early end of the profiled program, for those who want a few steps of it alone."""

from __future__ import annotations

from time import monotonic

__all__ = ["MIN_STEPS", "StepLimit"]

# One to leave out and two to measure, however long a step takes.
MIN_STEPS = 3


class StepLimit:
    """Ends the program as ``sys.exit(0)`` does, out of the optimizer step that reaches the limit.

    Its ``finally`` blocks and exit handlers run. `steps` is 0 for no limit; `seconds` count from
    the end of the first step, and not before `MIN_STEPS`.
    """

    def __init__(self, steps: int = 0, seconds: float = 0.0) -> None:
        self._steps, self._seconds = steps, seconds
        self._done = 0
        self._begin = 0.0

    def __bool__(self) -> bool:
        return bool(self._steps or self._seconds)

    def count(self) -> None:
        """Count a step; raises SystemExit at the limit, and again at each step beyond it."""
        self._done += 1
        if self._done == 1:
            self._begin = monotonic()
        late = self._seconds and monotonic() - self._begin >= self._seconds
        if (self._steps and self._done >= self._steps) or (late and self._done >= MIN_STEPS):
            raise SystemExit(0)
