from __future__ import annotations

import pytest

from tfa_perf.profile.laps import OTHER, Lap
from tfa_perf.profile.notes import disagreements, step_note
from tfa_perf.profile.steps import PhaseRow, PhaseTimes


def rows(timer: float, stack: float | None) -> list[PhaseRow]:
    rest = None if stack is None else 1 - stack
    return [
        PhaseRow("forward", 8.0 * timer, timer, 1.0, stack),
        PhaseRow(OTHER, 8.0 * (1 - timer), 1 - timer, 0.0, rest),
    ]


@pytest.mark.parametrize(
    ("timer", "stack", "warned"),
    [
        (0.5, 0.55, False),
        (0.5, 0.56, True),
        (0.5, 0.44, True),
        (0.0, 0.06, True),
        (0.5, None, False),
    ],
)
def test_over_five_points_apart_is_a_warning(
    timer: float, stack: float | None, warned: bool
) -> None:
    lines = disagreements(rows(timer, stack), 10_000)
    assert len(lines) == 2 * warned
    if warned:
        assert lines[0].startswith(f"timers and stacks disagree on forward: {100 * timer:.1f} %")
        assert lines[0].endswith("the timers hold, read the frames with care")


def test_few_stacks_are_told_from_a_real_disagreement() -> None:
    # Twice the standard error of a half is 10 points with 100 stacks, 5.8 with 300.
    assert "100 stacks are too few to tell" in disagreements(rows(0.5, 0.57), 100)[0]
    assert "too few" not in disagreements(rows(0.5, 0.57), 300)[0]
    assert "0 stacks are too few" in disagreements(rows(0.5, 0.0), 0)[0]


def lap(seconds: float, **phases: float) -> Lap:
    return Lap(seconds, {**phases, OTHER: seconds - sum(phases.values())}, {})


def times(**changes: object) -> PhaseTimes:
    values: dict[str, object] = {
        "steps": 60,
        "warmup_steps": 5,
        "measured_steps": 53,
        "compile_steps": 2,
        "wall_s": 9.0,
        "measured": lap(5.3),
        "warmup": lap(2.5, numba_compile=1.5, torch_compile=0.25),
        "compile": lap(0.75, numba_compile=0.5),
        "whole": lap(9.0),
        "step_median_s": 0.1,
        "step_p95_s": 0.2,
        "window": (0.3, 0.9),
    }
    return PhaseTimes(**{**values, **changes})  # type: ignore[arg-type]


def test_time_lost_to_warm_up_and_compiling_is_said() -> None:
    assert step_note(times()) == (
        "60 steps, 53 measured: median 100.000 ms, 95th percentile 200.000 ms; left out: start-up "
        "and the first 5 steps, 2.50 s (1.75 s compiling); 2 later steps that compiled, 0.75 s "
        "(0.50 s compiling)"
    )
    short = step_note(times(warmup_steps=1, compile_steps=0, warmup=lap(2.5)))
    assert short.endswith("left out: start-up and the first step, 2.50 s")
    assert step_note(times(measured_steps=0, step_median_s=None)).startswith("60 steps: too few")
    assert step_note(None).startswith("no phase times")
