"""Trees of frames as the columns that a page draws: one root a chart, widths as integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tfa_perf.profile.flame import Node, build_tree
from tfa_perf.profile.palette import (
    NEUTRAL,
    frame_colour,
    in_step_order,
    longest_first,
    phase_colour,
)
from tfa_perf.profile.run import Run
from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.stacks import OUTSIDE_STEPS, Stack

# Narrower boxes cannot be seen or clicked, and a chart of tens of thousands is slow.
PRUNE_SHARE = 0.001
_IDLE_SHARE = 0.98

Look = Callable[[Node], tuple[str, str]]
"""Colour of a frame's box and the line that a page shows for it."""


@dataclass
class Chart:
    """Columns of one chart: an entry per box, parents before children, the root first.

    No value is below the sum of its children: plotly draws nothing at all otherwise.
    """

    title: str
    names: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    colours: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unit: str = ""
    depth: int = 0

    def add(self, parent: int, name: str, value: float, colour: str, note: str = "") -> int:
        """Append a box below `parent` (-1 for the root) and return its place."""
        self.names.append(name)
        self.parents.append(parent)
        self.values.append(round(value))
        self.colours.append(colour)
        self.notes.append(note)
        return len(self.names) - 1

    def add_frames(self, parent: int, top: Node, scale: float, least: float, look: Look) -> None:
        """Append all below `top` that is at least `least` wide; `scale` makes values of totals."""
        # Not recursive: a program's stack may be deeper than ours may get.
        waiting = [(parent, child, 1) for child in longest_first(top.children.values())][::-1]
        while waiting:
            below, node, depth = waiting.pop()
            if node.total < least or not node.total:
                continue
            self.depth = max(self.depth, depth)
            place = self.add(below, node.name, scale * node.total, *look(node))
            children = longest_first(node.children.values())
            waiting += [(place, child, depth + 1) for child in reversed(children)]

    def settle(self) -> Chart:
        """Raise each value to at least the sum of its children, which rounding can break."""
        below: defaultdict[int, int] = defaultdict(int)
        for index in range(len(self.values) - 1, -1, -1):
            self.values[index] = max(self.values[index], below[index])
            below[self.parents[index]] += self.values[index]
        return self


def main_tree(run: Run) -> Node:
    """Phases and frames of the measured steps in ms; phases alone when nothing was sampled."""
    inside = [
        (stack.frames, stack.weight)
        for stack in run.stacks
        if stack.thread == MAIN and stack.frames[0] != OUTSIDE_STEPS
    ]
    seconds = sum(weight for _, weight in inside)
    if not seconds:
        return build_tree(((row.phase,), row.ms) for row in run.rows)
    scale = run.ms_per_step / seconds
    return build_tree((frames, weight * scale) for frames, weight in inside)


def busy_threads(stacks: Iterable[Stack]) -> dict[str, list[Stack]]:
    """Stacks of each thread other than main that did more than wait in one place."""
    by_thread: defaultdict[str, list[Stack]] = defaultdict(list)
    for stack in stacks:
        if stack.thread != MAIN:
            by_thread[stack.thread].append(stack)
    busy = {}
    for thread, found in by_thread.items():
        places: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for stack in found:
            places[stack.frames] += stack.weight
        if max(places.values()) < _IDLE_SHARE * sum(places.values()):
            busy[thread] = found
    return busy


def main_chart(runs: Sequence[Run]) -> Chart:
    """The main thread's steps, rooted at phases. Several runs stand side by side on one scale."""
    total = sum(run.ms_per_step for run in runs)
    several = len(runs) > 1
    chart = Chart("main thread", unit=runs[0].unit)
    root = chart.add(-1, "one step of each" if several else _title(runs[0]), 1e6 * total, NEUTRAL)
    for run in runs:
        top = chart.add(root, _title(run), 1e6 * run.ms_per_step, NEUTRAL) if several else root
        for phase in in_step_order(main_tree(run).children.values()):
            if phase.total < PRUNE_SHARE * total or not phase.total:
                continue
            share = 100 * phase.total / run.ms_per_step
            title = f"{phase.name} {share:.1f} % ({phase.total:.2f} {run.unit})"
            note = _step_note(run, phase.total)
            place = chart.add(top, title, 1e6 * phase.total, phase_colour(phase.name), note)

            def look(node: Node, run: Run = run, phase: str = phase.name) -> tuple[str, str]:
                return frame_colour(phase, node.name), _step_note(run, node.total)

            chart.add_frames(place, phase, 1e6, PRUNE_SHARE * total, look)
    chart.depth += 2 + several
    return chart.settle()


def _title(run: Run) -> str:
    return f"{run.label} ({run.ms_per_step:.2f} {run.unit})"


def _step_note(run: Run, ms: float) -> str:
    share = ms / run.ms_per_step if run.ms_per_step else 0.0
    note = f"{100 * share:.1f} % · {ms:.3f} {run.unit}"
    samples = round(share * run.samples)
    return f"{note} · {samples} samples" if run.samples else note


def thread_charts(run: Run) -> list[Chart]:
    """A chart for each busy thread other than main, over the whole run, the busiest first."""
    charts = []
    for thread, stacks in busy_threads(run.stacks).items():
        tree = build_tree((stack.frames[1:], stack.weight) for stack in stacks)
        total = tree.total
        title = stacks[0].frames[0]
        chart = Chart(title)
        root = chart.add(-1, f"{title} ({total:.2f} s of the run)", 1e9 * total, NEUTRAL)

        def look(node: Node, thread: str = thread, total: float = total) -> tuple[str, str]:
            share = 100 * node.total / total
            note = f"{share:.1f} % of {thread} · {node.total:.2f} s of the run"
            return frame_colour(thread, node.name), note

        chart.add_frames(root, tree, 1e9, PRUNE_SHARE * total, look)
        chart.depth += 1
        charts.append(chart.settle())
    return sorted(charts, key=lambda chart: -chart.values[0])
