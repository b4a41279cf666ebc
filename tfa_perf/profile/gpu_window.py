"""Some steps under torch.profiler, kept out of the timings, with the phases marked in the trace."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tfa_perf.profile.gpu import CAPTURES, DeviceSpans, DeviceTimes
from tfa_perf.profile.phases import Recorder
from tfa_perf.profile.spans import Span
from tfa_perf.profile.steps import MAX_WARMUP_STEPS, StepLog

# Names of the annotations that `gpu_trace` finds again; a phase may be called anything.
PHASE_MARK = "tfa_perf.phase: "
STEP_MARK = "tfa_perf.step"
# The step after the traced ones is the last of the warm-up: what tracing leaves behind for a moment
# is left out of the averages too.
_FIRST_TRACED = MAX_WARMUP_STEPS - 1


class TraceWindow:
    """Traces `steps` consecutive steps into a Chrome trace file."""

    def __init__(self, recorder: Recorder, steps: int, path: str) -> None:
        self._recorder = recorder
        self._path = path
        self._profile: Any = None
        self._open: list[tuple[Span | None, Any]] = []
        self._left = steps
        self.problem = ""

    @property
    def running(self) -> bool:
        return self._profile is not None

    def enter(self, span: Span) -> None:
        self._mark(span, PHASE_MARK + span.name)

    def leave(self, span: Span) -> None:
        for index in range(len(self._open) - 1, -1, -1):
            if self._open[index][0] is span:
                self._open.pop(index)[1].__exit__(None, None, None)
                return

    def begin(self) -> None:
        """Start tracing, where the program uses CUDA."""
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            self.problem = "no GPU work to trace: the program does not use CUDA"
        else:
            self.start()

    def start(self) -> None:
        """Start tracing, where no profiler of the program's own is running."""
        torch: Any = sys.modules["torch"]
        if torch.autograd._profiler_enabled():
            # A second one would not fail: it would take over the first one's trace.
            self.problem = "no GPU trace: the program runs torch.profiler itself"
            return
        if CAPTURES.running:
            self.problem = "no GPU trace: a CUDA graph was being captured on another thread"
            return
        activities = [torch.profiler.ProfilerActivity.CPU]
        with self._recorder.pause(), _quiet_kineto(), warnings.catch_warnings():
            # torch 2.11 warns that a second cycle would clear the first; there is one.
            warnings.simplefilter("ignore")
            try:
                if torch.cuda.is_initialized():
                    activities.append(torch.profiler.ProfilerActivity.CUDA)
                    # What earlier steps queued is not these steps' work.
                    torch.cuda.synchronize()
                profile = torch.profiler.profile(activities=activities)
                profile.start()
            except Exception as error:
                self.problem = f"no GPU trace: {_first_line(error)}"
                return
            self._profile = profile
        self._recorder.observe(self)
        self._mark_step()

    def end_step(self) -> None:
        """A traced step has ended; stop after the last one."""
        self._close_marks()
        self._left -= 1
        if self._left:
            self._mark_step()
        else:
            self.stop()

    def stop(self) -> None:
        """End tracing and write the trace; nothing happens where none is running."""
        profile, self._profile = self._profile, None
        if profile is None:
            return
        self._recorder.observe(None)
        self._close_marks()
        with self._recorder.pause():
            try:
                profile.stop()
                profile.export_chrome_trace(f"{self._path}.partial")
                os.replace(f"{self._path}.partial", self._path)
            except Exception as error:
                self.problem = f"no GPU trace: {_first_line(error)}"

    def _mark_step(self) -> None:
        self._mark(None, STEP_MARK)
        for span in self._recorder.open_spans():
            self.enter(span)

    def _mark(self, span: Span | None, text: str) -> None:
        annotation = sys.modules["torch"].profiler.record_function(text)
        annotation.__enter__()
        self._open.append((span, annotation))

    def _close_marks(self) -> None:
        while self._open:
            self._open.pop()[1].__exit__(None, None, None)


class GpuProfile:
    """Ends the steps of a run: in the log, on the device, and in the trace where one is asked."""

    def __init__(self, recorder: Recorder, log: StepLog, trace_steps: int, trace_path: str) -> None:
        self._log = log
        self._spans = DeviceSpans(recorder, MAX_WARMUP_STEPS)
        self._window = TraceWindow(recorder, trace_steps, trace_path) if trace_steps else None
        self._steps = 0

    def cut(self, averaged: bool = True) -> None:
        """End the current step, one in the averages or not. Call it on the recorder's main thread.

        A step that is in no average is timed on the device all the same.
        """
        window = self._window
        if window is not None and window.running:
            self._log.skip()
            window.end_step()
            if not window.running:
                self._spans.begin()
            return
        if averaged:
            self._log.cut()
        else:
            self._log.skip()
            self._log.count_unmeasured()
        self._steps += 1
        self._spans.end()
        if window is not None and self._steps == _FIRST_TRACED:
            window.begin()
        if window is None or not window.running:
            self._spans.begin()

    def suspend(self) -> None:
        """Time nothing on the device until `resume`, from a step that has only begun."""
        self._spans.abandon()

    def resume(self) -> None:
        """Time the step that begins now."""
        self._spans.begin()

    def finish(self, warmup_steps: int) -> tuple[DeviceTimes | None, str]:
        """Device times of the steps after warm-up, and why there is no trace though one was asked.

        The latter is empty where there is one, or none was asked for.
        """
        problem = ""
        if self._window is not None:
            self._window.stop()
            problem = self._window.problem
            if not problem and self._steps < _FIRST_TRACED:
                problem = f"no GPU work to trace: the run has only {self._steps} steps"
        return self._spans.finish(warmup_steps), problem


@contextmanager
def _quiet_kineto() -> Iterator[None]:
    """Keep the tracer's own lines off the program's stderr; it reads its level when it starts."""
    name = "KINETO_LOG_LEVEL"
    if name in os.environ:
        yield
        return
    # Above the last of its levels.
    os.environ[name] = "9"
    try:
        yield
    finally:
        os.environ.pop(name, None)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
