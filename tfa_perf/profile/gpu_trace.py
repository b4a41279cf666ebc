"""What a window of traced steps did on the GPU, phase by phase; and the trace with its phases."""

from __future__ import annotations

import bisect
import contextlib
import gzip
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfa_perf.profile.gpu_events import (
    Event,
    Interval,
    Timeline,
    Work,
    device_work,
    opened_phases,
    phase_spans,
    step_intervals,
)

TOP_KERNELS = 10
_PHASE_TRACK = 1 << 30


@dataclass(frozen=True)
class Copies:
    """Copies of one direction, per step."""

    count: float
    bytes: float
    ms: float


@dataclass(frozen=True)
class TracedPhase:
    """Device work of one phase, per step.

    `busy_ms` is the time in which at least one kernel, copy or fill of the phase ran. `idle_ms` is
    the time in which the device ran nothing at all while the main thread was in the phase: the
    phase that keeps the device waiting. With several devices both are means over the devices.
    """

    phase: str
    busy_ms: float
    idle_ms: float
    kernels: float
    copies: dict[str, Copies]


@dataclass(frozen=True)
class Kernel:
    """One kernel of one phase, per step."""

    name: str
    op: str
    phase: str
    count: float
    ms: float


@dataclass(frozen=True)
class GpuTrace:
    """What the traced steps did on the device. Times are ms per step, of wall clock `step_ms`.

    Tracing slows the host: the shares of a traced step are not those of an untraced one.
    """

    steps: int
    devices: int
    step_ms: float
    busy_ms: float
    idle_ms: float
    phases: list[TracedPhase]
    top: list[Kernel]


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The union of intervals, as intervals that do not touch, in order."""
    union: list[Interval] = []
    for begin, end in sorted(intervals):
        if union and begin <= union[-1].end:
            union[-1] = Interval(union[-1].begin, max(union[-1].end, end))
        else:
            union.append(Interval(begin, end))
    return union


def _length(intervals: Iterable[Interval]) -> float:
    return sum(end - begin for begin, end in intervals)


def _overlap(interval: Interval, union: Sequence[Interval], begins: Sequence[float]) -> float:
    """Length of the part of `interval` that lies in `union`; `begins` are those of `union`."""
    total = 0.0
    for index in range(max(bisect.bisect_right(begins, interval.begin) - 1, 0), len(union)):
        begin, end = union[index]
        if begin >= interval.end:
            break
        total += max(0.0, min(end, interval.end) - max(begin, interval.begin))
    return total


def summarize(events: Sequence[Event], top: int = TOP_KERNELS) -> GpuTrace | None:
    """What the traced steps did on the device; None where they did nothing on one."""
    steps = step_intervals(events)
    work = device_work(events)
    if not steps or not work:
        return None
    # Microseconds of the window to ms of a step.
    scale = 1e-3 / len(steps)
    devices = sorted({item.device for item in work})
    by_phase: defaultdict[str, list[Work]] = defaultdict(list)
    for item in work:
        by_phase[item.phase].append(item)
    pieces = Timeline(phase_spans(events)).pieces
    idle: defaultdict[str, float] = defaultdict(float)
    busy_total = 0.0
    for device in devices:
        union = merged(item.interval for item in work if item.device == device)
        begins = [interval.begin for interval in union]
        busy_total += _length(union) / len(devices)
        for name, piece in pieces:
            spare = piece.end - piece.begin - _overlap(piece, union, begins)
            idle[name] += spare / len(devices)
    phases = []
    for name in {*by_phase, *idle}:
        items = by_phase[name]
        busy = sum(
            _length(merged(item.interval for item in items if item.device == device))
            for device in devices
        )
        phases.append(
            TracedPhase(
                phase=name,
                busy_ms=scale * busy / len(devices),
                idle_ms=scale * idle.get(name, 0.0),
                kernels=sum(item.kind == "kernel" for item in items) / len(steps),
                copies=_copies(items, len(steps)),
            )
        )
    return GpuTrace(
        steps=len(steps),
        devices=len(devices),
        step_ms=scale * _length(steps),
        busy_ms=scale * busy_total,
        idle_ms=scale * sum(idle.values()),
        phases=sorted(phases, key=lambda p: (-p.busy_ms, -p.idle_ms, p.phase)),
        top=_top_kernels(work, len(steps), top),
    )


def _copies(work: Iterable[Work], steps: int) -> dict[str, Copies]:
    kinds: defaultdict[str, list[Work]] = defaultdict(list)
    for item in work:
        if item.kind not in ("kernel", "memset"):
            kinds[item.kind].append(item)
    return {
        kind: Copies(
            count=len(items) / steps,
            bytes=sum(item.bytes for item in items) / steps,
            ms=1e-3 * _length(item.interval for item in items) / steps,
        )
        for kind, items in sorted(kinds.items())
    }


def _top_kernels(work: Iterable[Work], steps: int, top: int) -> list[Kernel]:
    groups: defaultdict[tuple[str, str, str], list[Interval]] = defaultdict(list)
    for item in work:
        if item.kind == "kernel":
            groups[item.name, item.op, item.phase].append(item.interval)
    kernels = [
        Kernel(name, op, phase, len(intervals) / steps, 1e-3 * _length(intervals) / steps)
        for (name, op, phase), intervals in groups.items()
    ]
    return sorted(kernels, key=lambda k: (-k.ms, k.name, k.op, k.phase))[:top]


def phase_track(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Trace events of a track of its own that shows the phases and steps of the main thread."""
    track: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "args": {"name": "phases (tfa-perf)"}},
        {"ph": "M", "name": "process_sort_index", "args": {"sort_index": -1}},
        {"ph": "M", "name": "thread_name", "args": {"name": "main thread"}},
    ]
    steps = [(f"step {n}", mark) for n, mark in enumerate(step_intervals(events), 1)]
    for name, (begin, end) in [*steps, *opened_phases(events)]:
        track.append({"ph": "X", "cat": "phase", "name": name, "ts": begin, "dur": end - begin})
    for event in track:
        event.update(pid=_PHASE_TRACK, tid=0)
    return track


def write_trace(path: str | Path, events: Sequence[Event]) -> Path:
    """Write events and the track of phases as a gzipped Chrome trace, which Perfetto opens."""
    path = Path(path)
    document = {"displayTimeUnit": "ms", "traceEvents": [*events, *phase_track(events)]}
    partial = path.with_name(f"{path.name}.partial")
    try:
        with gzip.open(partial, "wt", encoding="utf-8", compresslevel=6) as file:
            json.dump(document, file, separators=(",", ":"))
        os.replace(partial, path)
    finally:
        # On a full disk it would keep the other files out.
        with contextlib.suppress(OSError):
            partial.unlink()
    return path
