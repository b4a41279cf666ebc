"""One sweep: both sides at growing sizes, as far as memory and time allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from tfa_perf.available_memory import available_bytes
from tfa_perf.claims.measure import Ratio, median_interval, paired_ratio
from tfa_perf.claims.paired import repeat, rounds, timed
from tfa_perf.claims.workload import OutputsDiffer
from tfa_perf.scaling.fit import Power, fit_power
from tfa_perf.units import duration

__all__ = ["Call", "LeftOut", "Point", "Sweep", "Swept", "run_sweep"]

Call = Callable[[], object]

_FEWEST, _MOST = 6, 20
_SHORTEST_RUN_S = 0.02


@dataclass(frozen=True)
class Sweep:
    """Work whose size is one of N (rows), F (features), T (window) or B (batch).

    ``sides`` makes a call for each side at a size, by name; ``check`` raises OutputsDiffer where
    the calls compute different things, and is asked at the smallest size. ``bytes`` says what a
    size takes in memory. ``fixed`` is what does not change.
    """

    id: str
    work: str
    axis: str
    sizes: Sequence[int]
    fixed: str
    sides: Callable[[int], Mapping[str, Call]]
    check: Callable[[Mapping[str, Call]], None]
    bytes: Callable[[int], int] = lambda size: 0


@dataclass(frozen=True)
class Point:
    """Median seconds of a side at a size, and the interval that encloses it."""

    size: int
    seconds: float
    low: float
    high: float
    coverage: float
    repeats: int


@dataclass(frozen=True)
class LeftOut:
    """A size at which a side, or every side (""), was not timed, and why."""

    size: int
    side: str
    why: str


@dataclass
class Swept:
    """What a sweep found: points by side, before/after by size."""

    sweep: Sweep
    points: dict[str, list[Point]] = field(default_factory=dict)
    ratios: dict[int, Ratio] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def power(self, side: str) -> Power | None:
        points = self.points[side]
        return fit_power([p.size for p in points], [p.seconds for p in points])


def run_sweep(sweep: Sweep, budget_s: float, device: torch.device) -> Swept:
    """Time the sides of a sweep at each size, in turn, smallest size first.

    A side has 6 to 20 runs at a size, as many as fit into ``budget_s``; where six would not fit by
    the time of one run it stays out, there and at all that come after. A size that takes more than
    half of the free memory is left out with all that come after it. Runs shorter than 20 ms are
    repeated inside the timer.
    """
    found, slow = Swept(sweep), set[str]()
    for number, size in enumerate(sweep.sizes):
        later = sweep.sizes[number + 1 :]
        reason = _too_large(sweep.bytes(size))
        if reason:
            found.left_out += [LeftOut(s, "", reason) for s in (size, *later)]
            break
        calls = dict(sweep.sides(size))
        if number == 0:
            try:
                sweep.check(calls)
            except OutputsDiffer as error:
                found.left_out += [LeftOut(s, "", f"invalid: {error}") for s in sweep.sizes]
                break
        alone = {
            name: _alone(call, budget_s, device) for name, call in calls.items() if name not in slow
        }
        for name, seconds in list(alone.items()):
            if seconds * _FEWEST > budget_s:
                slow.add(name)
                del alone[name]
                why = f"{_FEWEST} runs of {duration(seconds)} take longer than {budget_s:g} s"
                found.left_out.append(LeftOut(size, name, why))
                found.left_out += [LeftOut(s, name, f"longer than {size:,}") for s in later]
        if not alone:
            break
        _measure_point(found, size, calls, alone, budget_s, device)
    return found


def _measure_point(
    found: Swept,
    size: int,
    calls: Mapping[str, Call],
    alone: Mapping[str, float],
    budget_s: float,
    device: torch.device,
) -> None:
    repeats = {n: max(1, round(_SHORTEST_RUN_S / max(t, 1e-9))) for n, t in alone.items()}
    round_s = sum(alone[name] * repeats[name] for name in alone)
    count = int(min(_MOST, max(_FEWEST, budget_s / round_s)))
    count += count % 2
    timers = [timed(repeat(calls[name], repeats[name]), device) for name in alone]
    laps = {
        name: [seconds / repeats[name] for seconds in lap]
        for name, lap in zip(alone, rounds(timers, count), strict=True)
    }
    for name, lap in laps.items():
        low, high, coverage = median_interval(count)
        ordered = sorted(lap)
        middle = float(np.median(ordered))
        point = Point(size, middle, ordered[low], ordered[high], coverage, count)
        found.points.setdefault(name, []).append(point)
    if len(laps) == 2:
        found.ratios[size] = paired_ratio(*laps.values())


def _alone(call: Call, budget_s: float, device: torch.device) -> float:
    """Seconds of one run, after one that finds caches cold and memory not yet taken.

    One run that takes the whole budget is enough to say so.
    """
    run = timed(call, device)
    first = run()
    return first if first > budget_s else run()


def _too_large(needed: int) -> str:
    free = available_bytes()
    if free is None or needed <= free // 2:
        return ""
    return f"takes {needed / 1e9:.1f} GB, more than half of the {free / 1e9:.1f} GB that are free"
