"""What a phase table leaves out, and where timers and stacks disagree, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfa_perf.profile.laps import Lap
from tfa_perf.profile.steps import COMPILE_PHASES, PhaseRow, PhaseTimes

DISAGREEMENT = 0.05


def step_note(times: PhaseTimes | None) -> str:
    """How many steps are measured, and the time lost to start-up, warm-up and compiling."""
    if times is None:
        return "no phase times: the program ran without hooks or ended without its exit handlers"
    if not times.measured_steps or times.step_median_s is None or times.step_p95_s is None:
        return f"{times.steps} steps: too few to measure, times are of the whole run"
    first = "step" if times.warmup_steps == 1 else f"{times.warmup_steps} steps"
    parts = [
        f"{times.steps} steps, {times.measured_steps} measured: median "
        f"{1e3 * times.step_median_s:.3f} ms, 95th percentile {1e3 * times.step_p95_s:.3f} ms",
        f"left out: start-up and the first {first}, {_seconds(times.warmup)}",
    ]
    if times.compile_steps:
        later = "a later step" if times.compile_steps == 1 else f"{times.compile_steps} later steps"
        parts.append(f"{later} that compiled, {_seconds(times.compile)}")
    return "; ".join(parts)


def _seconds(lap: Lap) -> str:
    compiling = sum(lap.phases.get(name, 0.0) for name in COMPILE_PHASES)
    return f"{lap.wall_s:.2f} s" + (f" ({compiling:.2f} s compiling)" if compiling else "")


def disagreements(rows: Sequence[PhaseRow], samples: int) -> list[str]:
    """A line for each phase whose shares by timers and by stacks are over 5 points apart.

    `samples` is how many stacks the shares come from.
    """
    lines = []
    for row in rows:
        if row.stack_share is None or round(abs(row.share - row.stack_share), 9) <= DISAGREEMENT:
            continue
        line = (
            f"timers and stacks disagree on {row.phase}: {100 * row.share:.1f} % and "
            f"{100 * row.stack_share:.1f} %"
        )
        # Two standard errors of a share counted from that many stacks.
        count = max(samples, 1)
        noise = 2 * math.sqrt(max(row.share * (1 - row.share), 1 / count) / count)
        if abs(row.share - row.stack_share) <= noise:
            line += f"; {samples} stacks are too few to tell, run longer"
        else:
            line += "; the timers hold, read the frames with care"
        lines.append(line)
    return lines
