"""``tfa-perf compare``: two profiled runs phase by phase, with a difference flame graph."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfa_perf.profile.comparison import Change, Comparison, compare_runs
from tfa_perf.profile.difference import Difference, FoundFrame
from tfa_perf.profile.difference_page import LISTED, write_difference
from tfa_perf.profile.gate import Outcome, check_change, parse
from tfa_perf.profile.run import Run
from tfa_perf.profile.run_file import read_run

__all__ = ["compare"]

_SHOWN = 5


def compare(
    before: Path,
    after: Path,
    *,
    more_before: Sequence[Path] = (),
    more_after: Sequence[Path] = (),
    out: Path | None = None,
    changed: Sequence[str] = (),
    force: bool = False,
    fail_if: Sequence[str] = (),
    as_json: bool = False,
) -> int:
    """Print what changed from run folder `before` to `after`; 1 when a condition is met, else 0.

    Writes the page to `out`, by default ``against-BEFORE.html`` in the folder `after`.

    Raises
    ------
    RunFileError, NotComparableError, ConditionError : see `read_run`, `compare_runs` and `parse`.
    OSError : the page cannot be written.
    """
    conditions = [parse(text) for text in fail_if]
    comparison = compare_runs(
        read_run(before),
        read_run(after),
        more_before=[read_run(folder) for folder in more_before],
        more_after=[read_run(folder) for folder in more_after],
        changed=changed,
        force=force,
    )
    outcomes = [check_change(condition, comparison) for condition in conditions]
    difference = Difference(Run.of(comparison.before), Run.of(comparison.after))
    if out is None:
        folder = after if after.is_dir() else after.parent
        name = (before if before.is_dir() else before.parent).resolve().name
        out = folder / f"against-{name}.html"
    page = write_difference(out, comparison, difference)
    if as_json:
        print(json.dumps(_document(comparison, difference, outcomes, page), indent=1))
    else:
        _show(Console(), comparison, difference, outcomes, page)
    return int(any(outcome.met for outcome in outcomes))


def _show(
    console: Console,
    comparison: Comparison,
    difference: Difference,
    outcomes: Sequence[Outcome],
    page: Path,
) -> None:
    for mismatch in comparison.mismatches:
        console.print(f"differs: {mismatch}", soft_wrap=True, markup=False, highlight=False)
    for side, run in (("before", comparison.before), ("after", comparison.after)):
        if run.exit_code:
            console.print(f"the run {side} ended with exit code {run.exit_code}", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    digits = 2 if comparison.step.after_ms >= 10 else 3
    for heading in ("phase", "before ms", "after ms", "difference [95 %]", "verdict"):
        table.add_column(heading, justify="left" if heading in ("phase", "verdict") else "right")
    for change in (comparison.step, *comparison.phases):
        table.add_row(*_cells(change, digits), end_section=change is comparison.step)
    console.print(table)
    console.print(comparison.note, soft_wrap=True, highlight=False)
    for title, frames in (("new", difference.new()), ("removed", difference.removed())):
        for frame in frames[:_SHOWN]:
            text = f"{title}: {' > '.join(frame.path)}, {frame.ms:.3f} ms/step"
            console.print(text, soft_wrap=True, markup=False, highlight=False)
        if len(frames) > _SHOWN:
            console.print(f"{title}: {len(frames) - _SHOWN} more frames, on the page")
    for outcome in outcomes:
        sign = "met" if outcome.met else "not met"
        text = f"{outcome.condition.text}: {sign}, {outcome.why}"
        console.print(text, soft_wrap=True, markup=False, highlight=False)
    console.print(f"wrote {page}", soft_wrap=True, markup=False, highlight=False)


def _cells(change: Change, digits: int) -> tuple[str, ...]:
    interval = change.interval
    between = ""
    if interval is not None:
        between = f" [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"
    colour = "" if not change.detected else "red" if change.ms > 0 else "blue"
    verdict = f"[{colour}]{change.verdict}[/]" if colour else change.verdict
    return (
        escape(change.name),
        f"{change.before_ms:.{digits}f}",
        f"{change.after_ms:.{digits}f}",
        escape(f"{change.ms:+.{digits}f}{between}"),
        verdict,
    )


def _document(
    comparison: Comparison, difference: Difference, outcomes: Sequence[Outcome], page: Path
) -> dict[str, Any]:
    return {
        "before": comparison.before.name,
        "after": comparison.after.name,
        "runs": list(comparison.runs),
        "mismatches": [asdict(mismatch) for mismatch in comparison.mismatches],
        "step": _change(comparison.step),
        "phases": [_change(change) for change in comparison.phases],
        "new": _frames(difference.new()),
        "removed": _frames(difference.removed()),
        "conditions": [
            {"condition": o.condition.text, "met": o.met, "why": o.why} for o in outcomes
        ],
        "page": str(page),
    }


def _change(change: Change) -> dict[str, Any]:
    interval = change.interval
    return {
        "phase": change.name,
        "before_ms": change.before_ms,
        "after_ms": change.after_ms,
        "before_share": change.before_share,
        "after_share": change.after_share,
        "difference_ms": change.ms,
        "interval_ms": [interval.low, interval.high] if interval else None,
        "verdict": change.verdict,
    }


def _frames(frames: Sequence[FoundFrame]) -> list[dict[str, Any]]:
    return [{"path": list(frame.path), "ms": frame.ms} for frame in frames[:LISTED]]
