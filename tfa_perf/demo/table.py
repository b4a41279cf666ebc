"""The demo's table: phase by phase before and after, with paired ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from rich.table import Table

from tfa_perf.claims.measure import paired_ratio
from tfa_perf.demo.timing import StepTimes

__all__ = ["once_table", "phase_order", "step_table", "tables_json"]

# A phase under this on both sides is clock noise; its ratio would say nothing.
_SHORTEST_RATED_MS = 0.01


def phase_order(*sides: StepTimes) -> list[str]:
    """Phases of the sides, the longest of the first side first, "other" last."""
    names = {name for side in sides for lap in side.laps for name in lap.phases}
    return sorted(names, key=lambda name: (name == "other", -sum(_seconds(sides[0], name))))


def step_table(before: StepTimes, after: StepTimes) -> Table:
    """Phase x (before ms/step, share, after ms/step, share, ratio), then the step and samples/s.

    ms/step is the mean over the steps, so that phases add up to the step; the ratio is the
    median over the pairs, with its 95 % interval.
    """
    table = Table(title="one optimizer step")
    table.add_column("phase")
    for heading in ("before ms", "share", "after ms", "share", "before/after [95 %]"):
        table.add_column(heading, justify="right")
    walls = [[lap.wall_s for lap in side.laps] for side in (before, after)]
    for name in phase_order(before, after):
        cells: list[str] = []
        times = [_seconds(side, name) for side in (before, after)]
        for seconds, wall in zip(times, walls, strict=True):
            cells += [_ms(seconds), f"{sum(seconds) / sum(wall):.1%}"]
        table.add_row(name, *cells, _ratio(*times))
    table.add_section()
    table.add_row("step", _ms(walls[0]), "100.0%", _ms(walls[1]), "100.0%", _ratio(*walls))
    rates = [
        sum(side.windows) / sum(wall) for side, wall in zip((before, after), walls, strict=True)
    ]
    table.add_row("samples/s", f"{rates[0]:,.0f}", "", f"{rates[1]:,.0f}", "", "")
    return table


def once_table(times: dict[str, tuple[list[float], list[float]]]) -> Table:
    """What a run does once: before ms, after ms, ratio with its 95 % interval."""
    table = Table(title="once a run")
    table.add_column("work")
    for heading in ("before ms", "after ms", "before/after [95 %]"):
        table.add_column(heading, justify="right")
    for name, (before, after) in times.items():
        table.add_row(name, _ms(before), _ms(after), _ratio(before, after))
    return table


def tables_json(
    once: dict[str, tuple[list[float], list[float]]], before: StepTimes, after: StepTimes
) -> dict[str, Any]:
    """The figures of both tables: ``once`` and ``phases`` by name, and ``step``."""
    walls = [[lap.wall_s for lap in side.laps] for side in (before, after)]
    names = phase_order(before, after)
    return {
        "once": {name: _figures(*times) for name, times in once.items()},
        "phases": {name: _figures(_seconds(before, name), _seconds(after, name)) for name in names},
        "step": _figures(*walls),
    }


def _figures(before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
    rated = min(*before, *after) * 1e3 >= _SHORTEST_RATED_MS
    return {
        "before_ms": 1e3 * fmean(before),
        "after_ms": 1e3 * fmean(after),
        "ratio": asdict(paired_ratio(before, after)) if rated else None,
    }


def _seconds(side: StepTimes, phase: str) -> list[float]:
    return [lap.phases.get(phase, 0.0) for lap in side.laps]


def _ms(seconds: Sequence[float]) -> str:
    return f"{sum(seconds) / len(seconds) * 1e3:,.2f}"


def _ratio(before: Sequence[float], after: Sequence[float]) -> str:
    if min(*before, *after) * 1e3 < _SHORTEST_RATED_MS:
        return "-"
    return str(paired_ratio(before, after))
