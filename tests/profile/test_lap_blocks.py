from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.profile import lap_blocks
from tfa_perf.profile.lap_blocks import LapSeries
from tfa_perf.profile.laps import OTHER, Lap
from tfa_perf.profile.phases import Recorder, phase, recording
from tfa_perf.profile.steps import PhaseTimes, StepLog

seconds = st.integers(0, 10**7).map(lambda ns: ns / 1e9)
phases = st.dictionaries(st.sampled_from(["forward", "backward", "save"]), seconds, max_size=3)


@st.composite
def laps(draw: st.DrawFn) -> Lap:
    times = draw(phases)
    times[OTHER] = draw(seconds)
    return Lap(sum(times.values()), times, {name: 1 for name in times if name != OTHER})


@given(st.lists(laps(), max_size=70), st.sampled_from([2, 4, 16]))
def test_blocks_hold_every_step_in_order(found: list[Lap], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lap_blocks, "MAX_BLOCKS", limit)
        series = LapSeries()
        for lap in found:
            series.append(lap)
    blocks = series.blocks()
    size = 1
    while size * limit < len(found):
        size *= 2
    assert (blocks.size, series.steps) == (size, len(found))
    chunks = [found[i : i + size] for i in range(0, len(found), size)]
    assert blocks.wall_ns == [sum(round(lap.wall_s * 1e9) for lap in c) for c in chunks]
    for name in {name for lap in found for name in lap.phases}:
        expected = [sum(round(lap.phases.get(name, 0) * 1e9) for lap in c) for c in chunks]
        assert blocks.phases_ns[name] == expected
    total = series.total()
    assert math.isclose(total.wall_s, sum(lap.wall_s for lap in found))
    assert total.calls.get("forward", 0) == sum("forward" in lap.phases for lap in found)


def run_steps(steps: int, compiling: set[int]) -> PhaseTimes:
    """Steps of a phase `work`; those in `compiling` open `numba_compile` as well."""
    with recording(Recorder()) as recorder:
        log = StepLog(recorder)
        for step in range(steps):
            with phase("work"):
                sum(range(100))
            if step in compiling:
                with phase("numba_compile"):
                    sum(range(2000))
            log.cut()
        return log.finish()


@pytest.mark.parametrize("steps", [0, 1, 2, 10, 24, 25, 60])
def test_steps_that_compile_are_left_out_and_counted(steps: int) -> None:
    times = run_steps(steps, {0, 9, 20})
    warm = min(steps, 5 if steps >= 25 else 1)
    late = len({9, 20} & set(range(warm, steps)))
    measured = steps - warm - late
    assert times.steps == steps
    assert times.measured_steps == measured
    assert times.compile_steps == times.compile.calls.get("numba_compile", 0) == late
    if not measured:
        assert (times.warmup_steps, times.blocks, times.window) == (0, None, (0.0, 1.0))
        assert times.measured == times.whole
        return
    assert times.warmup_steps == warm
    assert times.warmup.calls["numba_compile"] == 1
    assert "numba_compile" not in times.measured.phases
    assert times.measured.calls == {"work": measured}
    assert times.blocks is not None
    assert len(times.blocks.wall_ns) == measured
    parts = times.warmup.wall_s + times.compile.wall_s + times.measured.wall_s
    assert 0 <= times.whole.wall_s - parts < 0.1
    assert PhaseTimes.from_json(times.to_json()) == times


def test_where_most_steps_compile_they_are_what_is_measured() -> None:
    times = run_steps(40, set(range(0, 40, 2)) | {7})
    assert (times.measured_steps, times.compile_steps) == (35, 0)
    assert times.measured.calls["numba_compile"] == 18
    assert times.blocks is not None
    assert len(times.blocks.phases_ns["numba_compile"]) == 35
