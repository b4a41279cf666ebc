"""What a profiled run prints beside its text form: phase table, files, conditions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfa_perf.profile.gate import Condition, ConditionError, check_run
from tfa_perf.profile.gpu_report import device_cells, show_device
from tfa_perf.profile.overhead import overhead_note
from tfa_perf.profile.run import Run
from tfa_perf.profile.sampler import ProfileResult

__all__ = ["show_conditions", "show_end", "show_table"]


def show_table(console: Console, run: Run) -> None:
    """The phase table, with what it leaves out and what dominates."""
    if run.rows:
        table = Table(title=f"{run.label}: {run.ms_per_step:.3f} {run.unit}", title_justify="left")
        per_step = "/step" if run.steps else ""
        on_device = any(row.device_ms is not None for row in run.rows)
        device = (f"device ms{per_step}",) if on_device else ()
        headings = ("phase", run.unit, "share %", *device, f"calls{per_step}", "stacks %")
        for heading in headings:
            table.add_column(heading, justify="left" if heading == "phase" else "right")
        for row in run.rows:
            stacks = "" if row.stack_share is None else f"{100 * row.stack_share:.1f}"
            table.add_row(
                escape(row.phase),
                f"{row.ms:.3f}",
                f"{100 * row.share:.1f}",
                *device_cells(row.device_ms, on_device),
                f"{row.calls:.2f}",
                stacks,
            )
        console.print(table)
    console.print(run.note, soft_wrap=True, markup=False)
    for warning in run.warnings:
        console.print(f"warning: {warning}", soft_wrap=True, markup=False)
    if run.verdict:
        console.print(run.verdict, soft_wrap=True, markup=False, highlight=False)


def show_end(
    console: Console, result: ProfileResult, files: Sequence[Path], *, attached: bool = False
) -> None:
    """What holds of the whole run: device, wall clock, sampler, files.

    ``attached`` where the process was there before, and has not ended.
    """
    if result.times is not None and result.times.steps:
        console.print(overhead_note(result.times.overhead), soft_wrap=True, markup=False)
    if result.times is not None:
        show_device(console, result.times, result.run.gpu_trace)
    end = "the process goes on" if attached else f"exit code {result.exit_code}"
    console.print(f"wall clock {result.wall_s:.2f} s, {end}")
    console.print(f"stacks: {result.sampler}, {escape(result.reason)}", soft_wrap=True)
    for file in files:
        console.print(f"  {file}", soft_wrap=True, highlight=False, markup=False)


def show_conditions(console: Console, runs: Sequence[Run], conditions: Sequence[Condition]) -> int:
    """0 when none of the conditions is met by any run, 1 when one is, 2 when one cannot be told."""
    met = 0
    try:
        for run in runs:
            of = f"{run.label}: " if len(runs) > 1 else ""
            for condition in conditions:
                if not run.steps:
                    raise ConditionError(
                        f"--fail-if {condition.text!r}: no steps were measured; run at least two"
                    )
                outcome = check_run(condition, run.rows, run.ms_per_step)
                met |= outcome.met
                sign = "met" if outcome.met else "not met"
                text = f"{of}{condition.text}: {sign}, {outcome.why}"
                console.print(text, soft_wrap=True, markup=False, highlight=False)
    except ConditionError as error:
        console.print(f"tfa_perf.profile: {error}", soft_wrap=True, markup=False, highlight=False)
        return 2
    return int(met)
