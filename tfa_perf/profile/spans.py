"""Running totals of one thread's spans, and laps cut out of them.

Time is exclusive by construction: at every boundary the time since the last boundary goes to the
innermost open span, or to ``other`` when none is open. So the phases of a lap and ``other`` always
add up to the lap's wall clock.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from time import perf_counter_ns
from typing import Protocol

from tfa_perf.profile.laps import OTHER, Lap, exact_seconds

Totals = tuple[dict[str, int], dict[str, int]]


class Span(Protocol):
    """A named block, told apart from others by its identity."""

    name: str


class SpanObserver(Protocol):
    """Told of every span that the main thread opens and closes; it must not raise."""

    def enter(self, span: Span) -> None: ...

    def leave(self, span: Span) -> None: ...


class Spans:
    """Open spans and running totals (ns) of one thread."""

    __slots__ = ("calls", "last", "observer", "porous", "stack", "thread", "top", "totals")

    def __init__(self, thread: str) -> None:
        self.thread = thread
        self.observer: SpanObserver | None = None
        # The last span that hooks inside it take time off.
        self.porous: Span | None = None
        self.stack: list[Span] = []
        self.top = OTHER
        self.totals: defaultdict[str, int] = defaultdict(int)
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.last = perf_counter_ns()

    # The observer's own time falls outside the span it is told of.
    def enter(self, span: Span) -> None:
        if self.observer is not None:
            self.observer.enter(span)
        now = perf_counter_ns()
        self.totals[self.top] += now - self.last
        self.last = now
        self.stack.append(span)
        self.top = span.name
        self.calls[span.name] += 1

    def leave(self, span: Span) -> None:
        stack = self.stack
        if not stack or stack[-1] is not span:
            self._leave_out_of_order(span)
            return
        now = perf_counter_ns()
        self.totals[self.top] += now - self.last
        self.last = now
        stack.pop()
        self.top = stack[-1].name if stack else OTHER
        if self.observer is not None:
            self.observer.leave(span)

    def _leave_out_of_order(self, span: Span) -> None:
        # A suspended generator can close its span after its consumer opened another; a span opened
        # before the recorder became active is not on the stack at all.
        self.flush()
        self.drop(span)
        if self.observer is not None:
            self.observer.leave(span)

    def drop(self, span: Span) -> None:
        """Forget an open span without counting time; nothing where it is not open."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is span:
                del self.stack[index]
                break
        self.top = self.stack[-1].name if self.stack else OTHER

    def resume(self) -> None:
        """Count time again from now on, for the innermost span that is open now."""
        self.top = self.stack[-1].name if self.stack else OTHER
        self.last = perf_counter_ns()

    def move(self, name: str, ns: int) -> None:
        """Give the last `ns` of the innermost open phase to phase `name`, as one call of it."""
        self.flush()
        moved = min(ns, self.totals[self.top])
        self.totals[self.top] -= moved
        self.totals[name] += moved
        self.calls[name] += 1

    def snapshot(self) -> Totals:
        """Running totals and calls up to now."""
        self.flush()
        return dict(self.totals), dict(self.calls)

    def flush(self) -> None:
        now = perf_counter_ns()
        self.totals[self.top] += now - self.last
        self.last = now


class LapCursor:
    """Cuts laps out of a recorder's running totals, independently of other cursors on it."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._cuts = [spans.snapshot()]

    def cut(self) -> None:
        """End a lap here, for `laps` to work out later. Spans still open count up to now."""
        self._cuts.append(self._spans.snapshot())

    def laps(self) -> list[Lap]:
        """The laps ended since the last call."""
        found = [_between(before, after) for before, after in pairwise(self._cuts)]
        del self._cuts[:-1]
        return found

    def lap(self) -> Lap:
        """End a lap here and return it, where none before it is left to work out."""
        self.cut()
        (lap,) = self.laps()
        return lap


def _between(before: Totals, after: Totals) -> Lap:
    (totals_before, calls_before), (totals, calls) = before, after
    spent = {name: ns - totals_before.get(name, 0) for name, ns in totals.items()}
    wall = exact_seconds(sum(spent.values()))
    phases = {name: exact_seconds(ns) for name, ns in spent.items() if ns and name != OTHER}
    phases[OTHER] = wall - sum(phases.values())
    counts = {
        name: count - calls_before.get(name, 0)
        for name, count in calls.items()
        if name != OTHER and count != calls_before.get(name, 0)
    }
    return Lap(wall, phases, counts)
