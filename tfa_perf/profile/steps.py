"""Phase times per optimizer step: what the profiled process writes and the table read from it."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter_ns
from typing import Any

from tfa_perf.profile.device_times import DeviceTimes
from tfa_perf.profile.lap_blocks import LapSeries, StepBlocks
from tfa_perf.profile.laps import OTHER, Lap
from tfa_perf.profile.phases import Recorder

# The first lap holds imports and set-up, the next few compile kernels and grow caches. A run too
# short to spare five steps leaves out the first alone.
MAX_WARMUP_STEPS = 5
_LONG_RUN_STEPS = 25
# A step leaves little of us in the caches: laps are worked out many at a time.
_FOLDED_STEPS = 64
# A step that compiles says nothing about the steps after it.
COMPILE_PHASES = frozenset({"numba_compile", "torch_compile", "triton_compile"})


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


class _Measured:
    """Steps after warm-up. Those that compile are kept apart, unless most of them do."""

    def __init__(self) -> None:
        self._all, self._steady, self._compiling = LapSeries(), LapSeries(), LapSeries()
        self._walls, self._steady_walls = array("d"), array("d")

    def append(self, lap: Lap) -> None:
        self._all.append(lap)
        self._walls.append(lap.wall_s)
        if COMPILE_PHASES.isdisjoint(lap.phases):
            self._steady.append(lap)
            self._steady_walls.append(lap.wall_s)
        else:
            self._compiling.append(lap)

    def split(self) -> tuple[LapSeries, Sequence[float], LapSeries]:
        """The steps to average, the wall clock of each, and the compiling steps left out."""
        if self._compiling.steps > self._steady.steps:
            return self._all, self._walls, LapSeries()
        return self._steady, self._steady_walls, self._compiling


class StepLog:
    """Laps of a run, one per optimizer step, folded so that a long run stays small in memory."""

    def __init__(self, recorder: Recorder, mark_s: float = 0.0) -> None:
        """`mark_s` is how long to stand at each mark for a stack sampler to see it; 0 for none."""
        self._recorder = recorder
        self._mark_s = mark_s
        self._cursor = recorder.cursor()
        self._whole = recorder.cursor()
        self._steps = self._folded = 0
        self._first: list[Lap] = []
        self._first_ends: list[int] = []
        # How long the warm-up is depends on the number of steps, which only the end tells.
        self._after = {warm: _Measured() for warm in (1, MAX_WARMUP_STEPS)}
        self._start_ns = self._last_ns = perf_counter_ns()
        self._skipped = 0
        self._skipped_ns = 0

    def cut(self) -> None:
        """End the current step. Call it on the recorder's main thread."""
        self._cursor.cut()
        self._steps += 1
        if self._mark_s and self._steps in (1, MAX_WARMUP_STEPS):
            with self._recorder.pause():
                mark = mark_after_first_step if self._steps == 1 else mark_after_warm_up
                mark(self._mark_s)
        self._last_ns = perf_counter_ns() - self._skipped_ns
        if self._steps <= MAX_WARMUP_STEPS:
            self._first_ends.append(self._last_ns)
        if self._steps % _FOLDED_STEPS == 0:
            with self._recorder.pause():
                self._fold()

    def _fold(self) -> None:
        for lap in self._cursor.laps():
            self._folded += 1
            if self._folded <= MAX_WARMUP_STEPS:
                self._first.append(lap)
            if self._folded == _LONG_RUN_STEPS:
                del self._after[1]
            for warm, measured in self._after.items():
                if self._folded > warm:
                    measured.append(lap)

    def skip(self) -> None:
        """Forget the step that ends here: it is in no average and not counted."""
        self._fold()
        self._cursor.lap()

    def count_unmeasured(self) -> None:
        """Count a step that is in no average."""
        self._skipped += 1

    def leave_out(self, ns: int) -> None:
        """Take time that the recorder was suspended off the run."""
        self._skipped_ns += ns

    def finish(self) -> PhaseTimes:
        """The times of the run, which ends here."""
        end_ns = perf_counter_ns() - self._skipped_ns
        self._fold()
        whole = self._whole.lap()
        if self._mark_s:
            mark_end(self._mark_s)
        warm = warmup_steps(self._steps)
        series, unsorted, compiling = self._after[max(warm, 1)].split()
        walls = sorted(unsorted)
        window = (0.0, 1.0)
        if walls:
            span = max(end_ns - self._start_ns, 1)
            window = (
                (self._first_ends[warm - 1] - self._start_ns) / span,
                (self._last_ns - self._start_ns) / span,
            )
        return PhaseTimes(
            steps=self._steps + self._skipped,
            warmup_steps=warm if walls else 0,
            measured_steps=len(walls),
            compile_steps=compiling.steps,
            wall_s=whole.wall_s,
            measured=series.total() if walls else whole,
            warmup=sum_laps(self._first[:warm] if walls else ()),
            compile=compiling.total(),
            whole=whole,
            step_median_s=walls[len(walls) // 2] if walls else None,
            step_p95_s=walls[min(len(walls) - 1, len(walls) * 95 // 100)] if walls else None,
            window=window,
            blocks=series.blocks() if walls else None,
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
class OverheadBlocks:
    """Blocks of `steps` steps that ran in pairs, profiled and not, in nanoseconds.

    The steps that were not profiled are in no phase, and their time is not in the wall clock.
    """

    steps: int
    profiled_ns: list[int]
    plain_ns: list[int]


@dataclass(frozen=True)
class PhaseTimes:
    """Phase times of one run of a program.

    `measured` covers the `measured_steps` steps after warm-up, or the whole run when no step is
    left to measure; `whole` covers the run from the program's first line to its exit. `warmup`
    covers start-up and the `warmup_steps` first steps, `compile` the `compile_steps` later ones
    that compiled and are left out as well; `measured` holds such steps only where most compile.
    `window` is where the steps after warm-up lie, as two fractions of the run. `blocks` are the
    measured steps in the order they ran, None without any. `device` is None for a run that used no
    CUDA device; `gpu_trace_problem` says why a GPU trace that was asked for was not made.
    """

    steps: int
    warmup_steps: int
    measured_steps: int
    compile_steps: int
    wall_s: float
    measured: Lap
    warmup: Lap
    compile: Lap
    whole: Lap
    step_median_s: float | None
    step_p95_s: float | None
    window: tuple[float, float]
    blocks: StepBlocks | None = None
    device: DeviceTimes | None = None
    gpu_trace_problem: str = ""
    other_threads: dict[str, dict[str, float]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    overhead: OverheadBlocks | None = None

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
        for name in ("measured", "warmup", "compile", "whole"):
            fields[name] = Lap(**fields[name])
        if fields["blocks"] is not None:
            fields["blocks"] = StepBlocks(**fields["blocks"])
        if fields["device"] is not None:
            fields["device"] = DeviceTimes(**fields["device"])
        if fields.get("overhead") is not None:
            fields["overhead"] = OverheadBlocks(**fields["overhead"])
        fields["window"] = tuple(fields["window"])
        return cls(**fields)
