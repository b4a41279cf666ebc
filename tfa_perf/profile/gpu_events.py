"""Reading a Chrome trace of traced steps: steps, phases, and the device work that each launched.

A kernel, copy or fill belongs to the innermost phase that was open on the main thread when it was
launched; the launch is found by the correlation id. Kernels of the backward pass are launched on a
thread of autograd's while the main thread waits: they belong to its phase as well. What other
threads launch is ``other threads``.
"""

from __future__ import annotations

import bisect
import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfa_perf.profile.gpu_window import PHASE_MARK, STEP_MARK
from tfa_perf.profile.laps import OTHER

OTHER_THREADS = "other threads"
OUTSIDE = "launched outside"

_DEVICE_WORK = {"kernel": "kernel", "gpu_memset": "memset", "gpu_memcpy": "copy"}
_LAUNCHES = frozenset({"cuda_runtime", "cuda_driver"})
_AUTOGRAD_OP = "autograd::engine::evaluate_function"

Event = Mapping[str, Any]


class Interval(NamedTuple):
    """Begin and end in microseconds of the trace's clock."""

    begin: float
    end: float


class Work(NamedTuple):
    """One kernel, copy or fill on a device, and where it was launched from.

    `kind` is ``kernel``, ``memset`` or a copy's direction as ``HtoD``. `op` is the innermost torch
    op around the launch, empty where there is none.
    """

    name: str
    kind: str
    device: int
    interval: Interval
    bytes: int
    phase: str
    op: str


class Timeline:
    """Nested spans of one thread, cut into `pieces` of the innermost one that do not overlap."""

    def __init__(self, spans: Iterable[tuple[str, Interval]]) -> None:
        self.pieces: list[tuple[str, Interval]] = []
        open_spans: list[tuple[str, float]] = []
        now = 0.0
        for name, (begin, end) in sorted(spans, key=lambda s: (s[1].begin, -s[1].end)):
            now = self._close(open_spans, now, begin)
            self._piece(open_spans, now, begin)
            now = begin
            open_spans.append((name, end))
        self._close(open_spans, now, float("inf"))
        self._begins = [interval.begin for _, interval in self.pieces]

    def _close(self, open_spans: list[tuple[str, float]], now: float, until: float) -> float:
        """Close the spans that end by `until`; the innermost ends first."""
        while open_spans and open_spans[-1][1] <= until:
            end = open_spans[-1][1]
            self._piece(open_spans, now, end)
            now = max(now, end)
            open_spans.pop()
        return now

    def _piece(self, open_spans: Sequence[tuple[str, float]], begin: float, end: float) -> None:
        if open_spans and end > begin:
            self.pieces.append((open_spans[-1][0], Interval(begin, end)))

    def at(self, time: float) -> str | None:
        """Name of the innermost span at a time; None outside all."""
        index = bisect.bisect_right(self._begins, time) - 1
        if index < 0 or time > self.pieces[index][1].end:
            return None
        return self.pieces[index][0]


class _Ops:
    """The torch ops of one thread, to find the innermost around a moment."""

    def __init__(self) -> None:
        self._timeline: Timeline | None = None
        self._spans: list[tuple[str, Interval]] = []

    def add(self, name: str, interval: Interval) -> None:
        self._spans.append((name, interval))

    def at(self, time: float) -> str:
        if self._timeline is None:
            self._timeline = Timeline(self._spans)
        return self._timeline.at(time) or ""


def read_events(path: str | Path) -> list[dict[str, Any]]:
    """The events of a Chrome trace file, gzipped or not.

    Raises
    ------
    ValueError : the file holds no trace events.
    """
    data = Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    try:
        events = json.loads(data)["traceEvents"]
        return [event for event in events if isinstance(event, dict)]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a Chrome trace: {error}") from error


def _interval(event: Event) -> Interval:
    begin = float(event["ts"])
    return Interval(begin, begin + float(event.get("dur", 0.0)))


def _annotations(events: Iterable[Event]) -> list[Event]:
    return [e for e in events if e.get("cat") == "user_annotation" and e.get("ph") == "X"]


def step_intervals(events: Iterable[Event]) -> list[Interval]:
    """The traced steps on the main thread, in order."""
    marks = [e for e in _annotations(events) if e["name"] == STEP_MARK]
    return sorted(_interval(event) for event in marks)


def opened_phases(events: Iterable[Event]) -> list[tuple[str, Interval]]:
    """The phases that the main thread opened, nested as they were."""
    return [
        (str(event["name"])[len(PHASE_MARK) :], _interval(event))
        for event in _annotations(events)
        if event["name"].startswith(PHASE_MARK)
    ]


def phase_spans(events: Sequence[Event]) -> list[tuple[str, Interval]]:
    """The phases that the main thread opened, within an ``other`` that is each whole step."""
    return [(OTHER, step) for step in step_intervals(events)] + opened_phases(events)


def device_work(events: Sequence[Event]) -> list[Work]:
    """Kernels, copies and fills with the phase that launched them, in order of begin.

    Work whose launch the trace does not hold, or that was launched before or after the steps, has
    the phase ``launched outside``.
    """
    timeline = Timeline(phase_spans(events))
    main = {e["tid"] for e in _annotations(events) if e["name"] == STEP_MARK}
    autograd: set[Any] = set()
    launches: dict[int, tuple[Any, float]] = {}
    ops: defaultdict[Any, _Ops] = defaultdict(_Ops)
    for event in events:
        kind = event.get("cat")
        if kind == "cpu_op" and event.get("ph") == "X":
            if event["name"].startswith(_AUTOGRAD_OP):
                autograd.add(event["tid"])
            ops[event["tid"]].add(event["name"], _interval(event))
        elif kind in _LAUNCHES and "correlation" in event.get("args", {}):
            number, begin = event["args"]["correlation"], float(event["ts"])
            if number not in launches or begin < launches[number][1]:
                launches[number] = (event["tid"], begin)
    found = []
    for event in events:
        if event.get("cat") not in _DEVICE_WORK or event.get("ph") != "X":
            continue
        args = event.get("args", {})
        launch = launches.get(args.get("correlation"))
        name, op = OUTSIDE, ""
        if launch is not None:
            thread, moment = launch
            op = ops[thread].at(moment) if thread in ops else ""
            inside = timeline.at(moment)
            if inside is not None:
                name = inside if thread in main or thread in autograd else OTHER_THREADS
        found.append(
            Work(
                name=str(event["name"]),
                kind=_kind(event),
                device=int(args.get("device", 0)),
                interval=_interval(event),
                bytes=int(args.get("bytes", 0)),
                phase=name,
                op=op,
            )
        )
    return sorted(found, key=lambda work: work.interval)


def _kind(event: Event) -> str:
    kind = _DEVICE_WORK[event["cat"]]
    if kind != "copy":
        return kind
    # "Memcpy HtoD (Pinned -> Device)"
    words = str(event["name"]).split()
    return words[1] if len(words) > 1 else kind
