"""Phase times per optimizer step: what the profiled process writes and the table read from it."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter_ns
from typing import Any

from tfa_perf.profile.gpu import DeviceTimes
from tfa_perf.profile.phases import OTHER, Lap, Recorder

# The first lap holds imports and set-up, the next few compile kernels and grow caches. A run too
# short to spare five steps leaves out the first alone.
MAX_WARMUP_STEPS = 5
_LONG_RUN_STEPS = 25


def warmup_steps(steps: int) -> int:
    """How many first steps are left out of the averages."""
    return min(steps, MAX_WARMUP_STEPS if steps >= _LONG_RUN_STEPS else 1)


# Samples carry no time, and a sampler loses some, unevenly. A short sleep in one of these, kept out
# of every lap, shows in the stacks where the measured steps begin and where the run ends.
def mark_after_first_step(seconds: float) -> None:
    time.sleep(seconds)


def mark_after_warm_up(seconds: float) -> None:
    time.sleep(seconds)


def mark_end(seconds: float) -> None:
    time.sleep(seconds)


def mark_of(warmup: int) -> str:
    """Name of the function that stands in the stacks between warm-up and the measured steps."""
    mark = mark_after_first_step if warmup == 1 else mark_after_warm_up
    return mark.__name__


def sum_laps(laps: Sequence[Lap]) -> Lap:
    """One lap with the summed wall clock, phases and calls of `laps`."""
    phases: dict[str, float] = {}
    calls: dict[str, int] = {}
    for lap in laps:
        for name, seconds in lap.phases.items():
            phases[name] = phases.get(name, 0.0) + seconds
        for name, count in lap.calls.items():
            calls[name] = calls.get(name, 0) + count
    phases.setdefault(OTHER, 0.0)
    return Lap(sum(lap.wall_s for lap in laps), phases, calls)


class StepLog:
    """Laps of a run, one per optimizer step, folded so that a long run stays small in memory."""

    def __init__(self, recorder: Recorder, mark_s: float = 0.0) -> None:
        """`mark_s` is how long to stand at each mark for a stack sampler to see it; 0 for none."""
        self._recorder = recorder
        self._mark_s = mark_s
        self._steps = recorder.cursor()
        self._whole = recorder.cursor()
        self._first: list[Lap] = []
        self._first_ends: list[int] = []
        self._rest = Lap(0.0, {OTHER: 0.0}, {})
        self._walls = array("d")
        self._start_ns = self._last_ns = perf_counter_ns()

    def cut(self) -> None:
        """End the current step. Call it on the recorder's main thread."""
        lap = self._steps.lap()
        self._walls.append(lap.wall_s)
        if self._mark_s and len(self._walls) in (1, MAX_WARMUP_STEPS):
            with self._recorder.pause():
                mark = mark_after_first_step if len(self._walls) == 1 else mark_after_warm_up
                mark(self._mark_s)
        self._last_ns = perf_counter_ns()
        if len(self._first) < MAX_WARMUP_STEPS:
            self._first.append(lap)
            self._first_ends.append(self._last_ns)
        else:
            self._rest = sum_laps((self._rest, lap))

    def skip(self) -> None:
        """Forget the step that ends here: it is in no average and not counted."""
        self._steps.lap()

    def finish(self) -> PhaseTimes:
        """The times of the run, which ends here."""
        end_ns = perf_counter_ns()
        whole = self._whole.lap()
        if self._mark_s:
            mark_end(self._mark_s)
        steps = len(self._walls)
        warm = warmup_steps(steps)
        walls = sorted(self._walls[warm:])
        measured = sum_laps((*self._first[warm:], self._rest))
        if not walls:
            measured, warm, window = whole, 0, (0.0, 1.0)
        else:
            span = max(end_ns - self._start_ns, 1)
            window = (
                (self._first_ends[warm - 1] - self._start_ns) / span,
                (self._last_ns - self._start_ns) / span,
            )
        return PhaseTimes(
            steps=steps,
            warmup_steps=warm,
            measured_steps=len(walls),
            wall_s=whole.wall_s,
            measured=measured,
            whole=whole,
            step_median_s=walls[len(walls) // 2] if walls else None,
            step_p95_s=walls[min(len(walls) - 1, len(walls) * 95 // 100)] if walls else None,
            window=window,
            other_threads=self._recorder.other_threads(),
        )


@dataclass(frozen=True)
class PhaseRow:
    """One line of the phase table. Shares are 0 to 1; `ms`, `device_ms` and `calls` are per step.

    In a run without measured steps `ms` and `calls` are of the whole run.
    """

    phase: str
    ms: float
    share: float
    calls: float
    stack_share: float | None
    device_ms: float | None = None


def phase_rows(
    lap: Lap,
    steps: int,
    stack_shares: Mapping[str, float] | None = None,
    device: DeviceTimes | None = None,
) -> list[PhaseRow]:
    """The phase table of `lap`, which holds `steps` steps: longest first and ``other`` last."""
    count = max(steps, 1)
    names = {name for name, seconds in lap.phases.items() if seconds or name == OTHER}
    names.update(stack_shares or ())
    rows = [
        PhaseRow(
            phase=name,
            ms=1e3 * lap.phases.get(name, 0.0) / count,
            share=lap.phases.get(name, 0.0) / lap.wall_s if lap.wall_s else 0.0,
            calls=lap.calls.get(name, 0) / count,
            stack_share=stack_shares.get(name, 0.0) if stack_shares else None,
            device_ms=device.ms_per_step(name) if device else None,
        )
        for name in names
    ]
    return sorted(rows, key=lambda row: (row.phase == OTHER, -row.ms, row.phase))


@dataclass(frozen=True)
class PhaseTimes:
    """Phase times of one run of a program.

    `measured` covers the `measured_steps` steps after warm-up, or the whole run when no step is
    left to measure; `whole` covers the run from the program's first line to its exit. `window` is
    where the measured part lies, as two fractions of the run. `device` is None for a run that used
    no CUDA device; `gpu_trace_problem` says why a GPU trace that was asked for was not made.
    """

    steps: int
    warmup_steps: int
    measured_steps: int
    wall_s: float
    measured: Lap
    whole: Lap
    step_median_s: float | None
    step_p95_s: float | None
    window: tuple[float, float]
    device: DeviceTimes | None = None
    gpu_trace_problem: str = ""
    other_threads: dict[str, dict[str, float]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def ms_per_step(self) -> float:
        """Wall clock of a measured step, or of the whole run when there is none, in ms."""
        return 1e3 * self.measured.wall_s / max(self.measured_steps, 1)

    def rows(self, stack_shares: Mapping[str, float] | None = None) -> list[PhaseRow]:
        """The phase table of the measured part."""
        return phase_rows(self.measured, self.measured_steps, stack_shares, self.device)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PhaseTimes:
        fields = dict(data)
        fields["measured"] = Lap(**fields["measured"])
        fields["whole"] = Lap(**fields["whole"])
        if fields["device"] is not None:
            fields["device"] = DeviceTimes(**fields["device"])
        fields["window"] = tuple(fields["window"])
        return cls(**fields)
