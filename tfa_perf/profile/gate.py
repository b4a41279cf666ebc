"""Conditions of ``--fail-if``: limits on a step or its phases that end a CI job."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tfa_perf.profile.comparison import STEP, Change, Comparison
from tfa_perf.profile.palette import HOOKED_PHASES
from tfa_perf.profile.steps import PhaseRow

__all__ = [
    "GRAMMAR",
    "Condition",
    "ConditionError",
    "Outcome",
    "check_change",
    "check_run",
    "level",
    "parse",
]

GRAMMAR = (
    "give PHASE>SHARE% (data_wait>5%), step_ms>NUMBER or PHASE_ms>NUMBER (step_ms>12), or in a "
    "comparison step_ms>+PERCENT% or PHASE_ms>+PERCENT% (step_ms>+10%)"
)
_PATTERN = re.compile(r"\s*(.+?)\s*>\s*(\+?)\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*")
_MS = "_ms"


class ConditionError(ValueError):
    """A condition that cannot be read, or cannot be told of these runs."""


@dataclass(frozen=True)
class Condition:
    """``METRIC > LIMIT``. `kind` is ``share`` (%), ``ms`` or ``growth`` (% more than before)."""

    text: str
    name: str
    kind: str
    limit: float


@dataclass(frozen=True)
class Outcome:
    """Whether a condition is met, and on what figures."""

    condition: Condition
    met: bool
    why: str


def parse(text: str) -> Condition:
    """Read a condition such as ``data_wait>5%`` or ``step_ms>+10%``.

    Raises
    ------
    ConditionError : it is none; the message says the grammar.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ConditionError(f"--fail-if {text!r} is not a condition; {GRAMMAR}")
    name, plus, number, percent = match.groups()
    timed = name.endswith(_MS) and name != _MS
    shaped = bool(percent) == bool(plus) if timed else bool(percent) and not plus
    if not shaped or name == STEP:
        raise ConditionError(f"--fail-if {text!r} is not a condition; {GRAMMAR}")
    kind = "growth" if plus else "ms" if timed else "share"
    return Condition(text, name.removesuffix(_MS) if timed else name, kind, float(number))


def _check_name(condition: Condition, phases: Collection[str]) -> None:
    if condition.name not in {STEP, *phases, *HOOKED_PHASES}:
        known = ", ".join([STEP, *sorted(phases)])
        raise ConditionError(
            f"--fail-if {condition.text!r}: there is no phase {condition.name!r}; there are {known}"
        )


def _check_level(condition: Condition, ms: Mapping[str, float]) -> Outcome:
    """`ms` is per step, of every phase and the step."""
    _check_name(condition, ms.keys() - {STEP})
    value = ms.get(condition.name, 0.0)
    if condition.kind == "share":
        share = 100 * value / ms[STEP] if ms[STEP] else 0.0
        why = f"{condition.name} is {share:.1f} % of the step"
        return Outcome(condition, share > condition.limit, why)
    why = f"{condition.name} takes {value:.3f} ms/step"
    return Outcome(condition, value > condition.limit, why)


def level(text: str) -> Condition:
    """Read a condition that one run alone can meet.

    Raises
    ------
    ConditionError : it is none, or it compares two runs.
    """
    condition = parse(text)
    if condition.kind == "growth":
        raise ConditionError(
            f"--fail-if {text!r} compares two runs; use it with tfa-perf compare, or give "
            f"{condition.name}_ms>NUMBER here"
        )
    return condition


def check_run(condition: Condition, rows: Collection[PhaseRow], ms_per_step: float) -> Outcome:
    """Whether a run meets a condition of `level`; `rows` are of its measured steps.

    Raises
    ------
    ConditionError : it names a phase there is not.
    """
    return _check_level(condition, {**{row.phase: row.ms for row in rows}, STEP: ms_per_step})


def check_change(condition: Condition, comparison: Comparison) -> Outcome:
    """Whether a comparison meets a condition; levels are those of the run after.

    Growth counts only where a change is detected: otherwise noise would end the job.

    Raises
    ------
    ConditionError : it names a phase there is not.
    """
    levels = {change.name: change.after_ms for change in comparison.phases}
    if condition.kind != "growth":
        return _check_level(condition, {**levels, STEP: comparison.step.after_ms})
    _check_name(condition, levels.keys())
    change = comparison.step if condition.name == STEP else comparison[condition.name]
    if not change.before_ms:
        return _check_new(condition, change)
    growth = 100 * change.ms / change.before_ms
    why = f"{condition.name} {'grew' if growth > 0 else 'fell'} by {abs(growth):.1f} %"
    met = growth > condition.limit and _holds(change)
    return Outcome(condition, met, f"{why}: {change.verdict}")


def _check_new(condition: Condition, change: Change) -> Outcome:
    why = f"{condition.name} took no time before and {change.after_ms:.3f} ms/step after"
    return Outcome(condition, change.after_ms > 0 and _holds(change), why)


def _holds(change: Change) -> bool:
    # Without an interval there is only the figure to go by.
    return change.detected or change.interval is None
