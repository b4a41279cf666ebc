"""Difference flame graphs: two runs' trees on one scale of ms per step, coloured by the change."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tfa_perf.profile.flame import Node
from tfa_perf.profile.icicle import PRUNE_SHARE, Chart, main_tree
from tfa_perf.profile.palette import NEUTRAL, change_colour, in_step_order, longest_first
from tfa_perf.profile.run import Run

__all__ = ["Difference", "FoundFrame"]

_LINE = re.compile(r":\d+\)$")


@dataclass(frozen=True)
class FoundFrame:
    """A frame that only one of two runs has: its path from the phase on, and its ms per step."""

    path: tuple[str, ...]
    ms: float


class _Pair:
    """A frame of both runs: ms per step before and after, 0 where it is not."""

    __slots__ = ("after", "before", "children", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.before = self.after = 0.0
        self.children: dict[str, _Pair] = {}

    def add(self, node: Node, side: str) -> None:
        """Add a run's tree below this frame; frames are told apart by name and file, not line."""
        waiting: list[tuple[_Pair, Node]] = [(self, node)]
        while waiting:
            pair, node = waiting.pop()
            setattr(pair, side, getattr(pair, side) + node.total)
            for child in node.children.values():
                name = _LINE.sub(")", child.name)
                below = pair.children.get(name)
                if below is None:
                    below = pair.children[name] = _Pair(name)
                waiting.append((below, child))


class Difference:
    """The frames of two runs side by side.

    A change counts where it is over three standard errors of counting that many stacks, as among
    hundreds of frames two are often passed by chance; others stay grey and are not listed.
    """

    def __init__(self, before: Run, after: Run) -> None:
        self._root = _Pair("step")
        self._runs = (before, after)
        for run, side in zip(self._runs, ("before", "after"), strict=True):
            self._root.add(main_tree(run), side)
        # What one stack stands for; without any the phases are timed, and every change counts.
        self._grain = [run.ms_per_step / run.samples if run.samples else 0.0 for run in self._runs]
        changes = [abs(p.after - p.before) for _, p in self._walk() if self._counts(p)]
        self._most = max(changes, default=1.0)

    def _walk(self) -> Iterator[tuple[tuple[str, ...], _Pair]]:
        waiting: list[tuple[tuple[str, ...], _Pair]] = [
            ((name,), pair) for name, pair in self._root.children.items()
        ]
        while waiting:
            path, pair = waiting.pop()
            yield path, pair
            # A frame that is new or gone stands for all below it.
            if pair.before and pair.after:
                waiting += [((*path, name), child) for name, child in pair.children.items()]

    def _counts(self, pair: _Pair) -> bool:
        grains = zip((pair.before, pair.after), self._grain, strict=True)
        error = math.sqrt(sum(ms * grain for ms, grain in grains))
        return abs(pair.after - pair.before) > 3 * error

    def new(self) -> list[FoundFrame]:
        """Frames of the run after alone, the longest first."""
        return self._only("after", "before")

    def removed(self) -> list[FoundFrame]:
        """Frames of the run before alone, the longest first."""
        return self._only("before", "after")

    def _only(self, here: str, there: str) -> list[FoundFrame]:
        other = self._runs[there == "after"]
        timed = {(row.phase,) for row in other.rows if row.ms}
        found = [
            FoundFrame(path, getattr(pair, here))
            for path, pair in self._walk()
            # A phase that the timers saw was there, though no stack fell into it.
            if not getattr(pair, there) and self._counts(pair) and path not in timed
        ]
        return sorted(found, key=lambda frame: -frame.ms)

    def charts(self) -> list[Chart]:
        """The tree as wide as the run after, and as wide as the run before."""
        return [self._chart("after"), self._chart("before")]

    def _chart(self, side: str) -> Chart:
        run = self._runs[side == "after"]
        least = PRUNE_SHARE * run.ms_per_step
        unit = run.unit
        chart = Chart(f"the run {side}", unit=unit)
        title = f"{run.label} {side} ({run.ms_per_step:.2f} {unit})"
        root = chart.add(-1, title, 1e6 * run.ms_per_step, NEUTRAL)
        tops = in_step_order([_node(pair, side) for pair in self._root.children.values()])
        waiting = [(root, self._root.children[top.name], 1) for top in reversed(tops)]
        while waiting:
            parent, pair, depth = waiting.pop()
            ms = getattr(pair, side)
            if ms < least or not ms:
                continue
            chart.depth = max(chart.depth, depth + 1)
            change = f" ({pair.after - pair.before:+.2f} {unit})" if depth == 1 else ""
            place = chart.add(
                parent, pair.name + change, 1e6 * ms, self._colour(pair), self._note(pair)
            )
            nodes = longest_first(_node(child, side) for child in pair.children.values())
            below = [(place, pair.children[node.name], depth + 1) for node in nodes]
            waiting += reversed(below)
        return chart.settle()

    def _colour(self, pair: _Pair) -> str:
        change = (pair.after - pair.before) / self._most if self._counts(pair) else 0.0
        return change_colour(change)

    def _note(self, pair: _Pair) -> str:
        note = (
            f"{pair.before:.3f} ms/step before, {pair.after:.3f} after: "
            f"{pair.after - pair.before:+.3f}"
        )
        if not self._counts(pair):
            return f"{note}, within the error of sampling"
        if not pair.before:
            return f"{note}, new"
        return note if pair.after else f"{note}, removed"


def _node(pair: _Pair, side: str) -> Node:
    return Node(pair.name, getattr(pair, side))
