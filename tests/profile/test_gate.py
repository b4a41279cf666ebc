from __future__ import annotations

import pytest

from tfa_perf.profile.comparison import Change, Comparison
from tfa_perf.profile.gate import ConditionError, check_change, check_run, level, parse
from tfa_perf.profile.intervals import Interval
from tfa_perf.profile.steps import PhaseRow

ROWS = [
    PhaseRow("data_wait", 4.0, 0.4, 1.0, None),
    PhaseRow("my phase", 5.0, 0.5, 1.0, None),
    PhaseRow("other", 1.0, 0.1, 0.0, None),
]


@pytest.mark.parametrize(
    ("text", "name", "kind", "limit"),
    [
        ("data_wait>5%", "data_wait", "share", 5),
        (" my phase > 0.5 % ", "my phase", "share", 0.5),
        ("step_ms>12", "step", "ms", 12),
        ("forward_ms>.25", "forward", "ms", 0.25),
        ("step_ms>+10%", "step", "growth", 10),
        ("data_wait_ms > + 2.5%", "data_wait", "growth", 2.5),
    ],
)
def test_conditions_are_read(text: str, name: str, kind: str, limit: float) -> None:
    found = parse(text)
    assert (found.name, found.kind, found.limit) == (name, kind, limit)


@pytest.mark.parametrize(
    "text",
    [
        "", "data_wait", "data_wait>", "data_wait>5", "data_wait<5%", "data_wait>=5%", "step>5%",
        "step_ms>5%", "step_ms>+5", "step_ms>-5%", "data_wait>+5%", ">5%", "step_ms>x", "_ms>5",
        "step_ms>1e3", "step_ms>5% ; rm",
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(ConditionError, match=r"data_wait>5%.*step_ms>12.*step_ms>\+10%") as caught:
        parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "met", "why"),
    [
        ("data_wait>39.9%", True, "data_wait is 40.0 % of the step"),
        ("data_wait>40%", False, "data_wait is 40.0 % of the step"),
        ("my phase>49%", True, "my phase is 50.0 % of the step"),
        ("h2d>0%", False, "h2d is 0.0 % of the step"),
        ("step_ms>9.5", True, "step takes 10.000 ms/step"),
        ("my phase_ms>5", False, "my phase takes 5.000 ms/step"),
    ],
)
def test_levels_of_one_run(text: str, met: bool, why: str) -> None:
    outcome = check_run(parse(text), ROWS, 10.0)
    assert (outcome.met, outcome.why) == (met, why)


def test_a_misspelt_phase_does_not_pass_for_fast() -> None:
    with pytest.raises(ConditionError, match="no phase 'data_wiat'; there are step, data_wait, my"):
        check_run(parse("data_wiat>5%"), ROWS, 10.0)


def test_growth_needs_two_runs() -> None:
    with pytest.raises(ConditionError, match="tfa-perf compare"):
        level("step_ms>+10%")
    assert level("step_ms>10") == parse("step_ms>10")


def comparison(interval: Interval | None) -> Comparison:
    step = Change("step", 10.0, 12.0, 1.0, 1.0, interval)
    phases = (
        Change("forward", 8.0, 4.0, 0.8, 0.3, Interval(-5, -3)),
        Change("augment", 0.0, 6.0, 0.0, 0.5, Interval(5, 7)),
        Change("other", 2.0, 2.0, 0.2, 0.2, Interval(-1, 1)),
    )
    return Comparison(None, None, step, phases, ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "interval", "met", "why"),
    [
        ("step_ms>+10%", Interval(1, 3), True, "step grew by 20.0 %: slower"),
        ("step_ms>+20%", Interval(1, 3), False, "step grew by 20.0 %: slower"),
        ("step_ms>+10%", Interval(-1, 5), False, "step grew by 20.0 %: no change detected"),
        ("step_ms>+10%", None, True, "step grew by 20.0 %: too few steps to tell"),
        ("forward_ms>+10%", None, False, "forward fell by 50.0 %: faster"),
        ("augment_ms>+10%", None, True, "augment took no time before and 6.000 ms/step after"),
        ("h2d_ms>+10%", None, False, "h2d took no time before and 0.000 ms/step after"),
        ("augment>49%", None, True, "augment is 50.0 % of the step"),
        ("step_ms>12", None, False, "step takes 12.000 ms/step"),
    ],
)
def test_growth_counts_where_it_is_detected(
    text: str, interval: Interval | None, met: bool, why: str
) -> None:
    outcome = check_change(parse(text), comparison(interval))
    assert (outcome.met, outcome.why) == (met, why)
