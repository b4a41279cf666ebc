"""Two runs' charts beside each other: one scale, new and removed frames, noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.profile.difference import Difference
from tfa_perf.profile.run import Run
from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.stacks import Stack
from tfa_perf.profile.steps import PhaseRow

frames = st.lists(st.sampled_from(["f (a.py:1)", "f (a.py:7)", "g (b.py)", "h"]), max_size=5)
stacks = st.lists(
    st.tuples(st.sampled_from(["forward", "backward"]), frames, st.integers(1, 400)), max_size=25
)


def shown(found: list[tuple[str, list[str], int]], ms: float) -> Run:
    samples = [Stack(MAIN, (phase, *rest), n / 100) for phase, rest, n in found]
    return Run("r", samples, 9, ms, [PhaseRow("forward", ms, 1.0, 1.0, None)])


@given(stacks, stacks, st.floats(0.01, 100), st.floats(0.01, 100))
def test_charts_are_on_one_scale_and_nothing_outgrows_its_parent(
    before: list[Any], after: list[Any], before_ms: float, after_ms: float
) -> None:
    difference = Difference(shown(before, before_ms), shown(after, after_ms))
    for chart, ms in zip(difference.charts(), (after_ms, before_ms), strict=True):
        assert chart.values[0] == pytest.approx(1e6 * ms, abs=60)
        below = [0] * len(chart.values)
        for place, parent in enumerate(chart.parents):
            assert parent < place
            if parent >= 0:
                below[parent] += chart.values[place]
        assert all(b <= v for b, v in zip(below, chart.values, strict=True))
    listed = {frame.path for frame in difference.new()}
    assert listed.isdisjoint(frame.path for frame in difference.removed())
    same = Difference(shown(before, before_ms), shown(before, before_ms))
    assert not same.new() and not same.removed()
    assert all(len({c[1:3], c[3:5], c[5:7]}) == 1 for c in same.charts()[0].colours[1:])


def test_noise_of_sampling_stays_grey_and_unlisted() -> None:
    before = shown([("forward", ["f"], 400), ("forward", ["seldom"], 8)], 10.0)
    after = shown([("forward", ["f"], 420), ("forward", ["once"], 2)], 10.0)
    difference = Difference(before, after)
    assert not difference.new() and not difference.removed()
    chart = difference.charts()[0]
    note = chart.notes[chart.names.index("once")]
    assert note.endswith("within the error of sampling")


def test_a_phase_that_timers_saw_is_not_new_for_want_of_stacks() -> None:
    rows = [PhaseRow("forward", 1.2, 0.6, 1.0, None), PhaseRow("backward", 0.8, 0.4, 1.0, None)]
    before = replace(shown([("backward", ["f"], 900)], 2.0), rows=rows)
    after = shown([("backward", ["f"], 300), ("forward", ["g"], 900)], 8.0)
    difference = Difference(before, after)
    assert not difference.new()
    seen = replace(before, rows=rows[1:])
    assert [frame.path for frame in Difference(seen, after).new()] == [("forward",)]
