"""Device time per phase, from CUDA events on the stream, without a wait inside the steps.

An event is recorded where a phase of the main thread begins and ends, on the stream current there.
The time between the two is the phase's device time: its kernels, and the stream's waiting for more
work where the host is slower than the device. Like host times they are exclusive: what a phase
inside another took is taken off the outer one, and what no phase took of a step is ``other``.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from tfa_perf.profile.device_times import DeviceTimes
from tfa_perf.profile.laps import OTHER
from tfa_perf.profile.phases import Recorder
from tfa_perf.profile.spans import Span
from tfa_perf.profile.steps import COMPILE_PHASES

# Events cost the host a few microseconds each. After these many steps they are recorded in a tenth
# of the steps, spread so that no period of the program's own (a log line every 10 steps) is
# favoured.
EVERY_STEP = 200
_GOLDEN = 0.6180339887498949
_SAMPLED_SHARE = 0.1
# Spans whose events have not completed: a device that far behind is not one to give more events.
_MAX_PENDING = 20_000
_DRAIN_LIMIT_S = 5.0


class _Mark:
    """An event on a stream; `lane` is the stream's device and handle."""

    __slots__ = ("event", "lane", "uses")

    def __init__(self, event: Any, lane: tuple[int, int]) -> None:
        self.event = event
        self.lane = lane
        self.uses = 0


class _Open(NamedTuple):
    span: Span | None
    name: str
    mark: _Mark | None


class _Timed(NamedTuple):
    begin: _Mark
    end: _Mark
    name: str
    outer: str | None
    step: int
    whole_step: bool


def _no_seconds() -> defaultdict[str, float]:
    return defaultdict(float)


class _Sum:
    """Seconds per phase, summed over steps."""

    def __init__(self) -> None:
        self.steps = 0
        self.seconds = _no_seconds()

    def add(self, seconds: Mapping[str, float], steps: int = 1) -> None:
        self.steps += steps
        for name, spent in seconds.items():
            self.seconds[name] += spent


class _Captures:
    """How many CUDA graph captures are under way in the process.

    Recording an event on a capturing stream makes it part of the graph, and asking any event
    whether it has completed can break a capture of another thread.
    """

    def __init__(self) -> None:
        self.running = 0


CAPTURES = _Captures()


class DeviceSpans:
    """Times the spans of a recorder's main thread on the device, step by step.

    CUDA is used only where the program itself has initialised it. No method raises: the first error
    of the device ends the recording.
    """

    def __init__(self, recorder: Recorder, first_steps: int) -> None:
        """The first `first_steps` steps are kept apart, for `finish` to leave some out."""
        self._recorder = recorder
        self._first_steps = first_steps
        self._step = 0
        self._open: list[_Open] = []
        self._pending: deque[_Timed] = deque()
        self._pool: defaultdict[int, list[Any]] = defaultdict(list)
        self._partial: defaultdict[int, defaultdict[str, float]] = defaultdict(_no_seconds)
        self._first: dict[int, dict[str, float]] = {}
        self._steady, self._compiling = _Sum(), _Sum()
        self._untimed = 0
        self._problem = ""

    def enter(self, span: Span) -> None:
        self._push(span, span.name, self._mark())

    def leave(self, span: Span) -> None:
        for index in range(len(self._open) - 1, 0, -1):
            if self._open[index].span is span:
                mark = self._mark()
                # An error of the device has closed them all.
                if self._open:
                    self._close(index, mark)
                return

    def end(self) -> None:
        """End the current step."""
        if self._open:
            mark = self._mark()
            while self._open:
                self._close(len(self._open) - 1, mark)
        self._recorder.observe(None)
        self._step += 1
        self._resolve()

    def begin(self) -> None:
        """Begin the next step, recorded where that is wanted and possible."""
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized() or not self._wanted():
            return
        mark = self._mark()
        if mark is None:
            return
        self._push(None, OTHER, mark)
        # What is open across the end of a step counts on either side of it.
        for span in self._recorder.open_spans():
            self._push(span, span.name, mark)
        self._recorder.observe(self)

    def abandon(self) -> None:
        """Forget the step that has begun, as if it had never been wanted."""
        self._recorder.observe(None)
        self._open = []

    def finish(self, warmup_steps: int) -> DeviceTimes | None:
        """The times of the steps after warm-up; None when none of them was timed.

        Waits a few seconds at most for events that have not completed. A step that has not come to
        its end is left out.
        """
        self.abandon()
        deadline = time.monotonic() + _DRAIN_LIMIT_S
        self._resolve()
        while self._pending and not self._problem and time.monotonic() < deadline:
            time.sleep(0.001)
            self._resolve()
        for step, sums in self._first.items():
            if step >= warmup_steps:
                self._keep(sums)
        self._first.clear()
        found = self._steady
        # As the host's times: steps that compile count only where most of them do.
        if self._compiling.steps > found.steps:
            found.add(self._compiling.seconds, self._compiling.steps)
        if not found.steps:
            return None
        return DeviceTimes(found.steps, dict(found.seconds), self._untimed, self._problem)

    def _keep(self, sums: Mapping[str, float]) -> None:
        (self._steady if COMPILE_PHASES.isdisjoint(sums) else self._compiling).add(sums)

    def _wanted(self) -> bool:
        if self._problem or len(self._pending) > _MAX_PENDING:
            return False
        return self._step < EVERY_STEP or self._step * _GOLDEN % 1 < _SAMPLED_SHARE

    def _mark(self) -> _Mark | None:
        """An event on the current stream; None where there can be none."""
        if self._problem or CAPTURES.running:
            return None
        cuda = sys.modules["torch"].cuda
        try:
            if cuda.is_current_stream_capturing():
                return None
            stream = cuda.current_stream()
            lane = (stream.device_index, stream.cuda_stream)
            pool = self._pool[lane[0]]
            event = pool.pop() if pool else cuda.Event(enable_timing=True)
            event.record(stream)
        except Exception as error:
            self._fail(error)
            return None
        return _Mark(event, lane)

    def _push(self, span: Span | None, name: str, mark: _Mark | None) -> None:
        if mark is not None:
            mark.uses += 1
        self._open.append(_Open(span, name, mark))

    def _close(self, index: int, end: _Mark | None) -> None:
        """End the open span at `index`; 0 is the step itself."""
        span = self._open.pop(index)
        begin = span.mark
        if begin is None or end is None or begin.lane != end.lane:
            self._untimed += 1
            if index == 0:
                self._partial.pop(self._step, None)
            return
        outer = self._open[index - 1] if index else None
        same = outer is not None and outer.mark is not None and outer.mark.lane == begin.lane
        end.uses += 1
        name = outer.name if outer is not None and same else None
        self._pending.append(_Timed(begin, end, span.name, name, self._step, index == 0))

    def _resolve(self) -> None:
        """Read the events that have completed; those that have not stay for later."""
        if CAPTURES.running:
            return
        pending = self._pending
        try:
            while pending and pending[0].end.event.query():
                timed = pending.popleft()
                seconds = timed.begin.event.elapsed_time(timed.end.event) / 1e3
                self._add(timed, seconds)
                for mark in (timed.begin, timed.end):
                    mark.uses -= 1
                    if not mark.uses:
                        self._pool[mark.lane[0]].append(mark.event)
        except Exception as error:
            self._fail(error)

    def _add(self, timed: _Timed, seconds: float) -> None:
        sums = self._partial[timed.step]
        sums[timed.name] += seconds
        if timed.outer is not None:
            sums[timed.outer] -= seconds
        if not timed.whole_step:
            return
        del self._partial[timed.step]
        if timed.step < self._first_steps:
            self._first[timed.step] = sums
        else:
            self._keep(sums)

    def _fail(self, error: Exception) -> None:
        # After an error the device answers nothing more, and an error of ours must not be the
        # program's.
        lines = str(error).splitlines() or [type(error).__name__]
        self._problem = f"device times end at step {self._step}: {lines[0]}"
        self._recorder.observe(None)
        self._open = []
        self._pending.clear()
