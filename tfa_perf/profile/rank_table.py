"""One table of phases with a column for each rank of a torchrun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfa_perf.profile.run import Run

# Less than that in backward is not waiting, but a rank's own speed.
_WAIT_SHARE = 0.15


def slowest(runs: Sequence[Run]) -> int | None:
    """Place of the rank that the others wait for; None where there are no steps to compare.

    The ranks wait for each other where gradients are reduced, in ``backward``: their steps take
    equally long, and the slowest is the one with the most time outside it.
    """
    outside = [run.ms_per_step - _backward(run) for run in runs]
    if len(runs) < 2 or not all(run.steps for run in runs):
        return None
    return max(range(len(runs)), key=outside.__getitem__)


def told_of_waits(runs: Sequence[Run]) -> list[Run]:
    """The runs, where those that wait in backward for the slowest rank have that for a verdict."""
    last = slowest(runs)
    if last is None:
        return list(runs)
    needed = _backward(runs[last])
    return [_waiting(run, _backward(run) - needed, runs[last].label) for run in runs]


def _backward(run: Run) -> float:
    return sum(row.ms for row in run.rows if row.phase == "backward")


def _waiting(run: Run, ms: float, last: str) -> Run:
    share = ms / run.ms_per_step if run.ms_per_step else 0.0
    if share < _WAIT_SHARE:
        return run
    name = " ".join(last.rsplit(" ", 2)[-2:])
    return replace(
        run,
        verdict=f"backward is {100 * share:.0f} % of the step longer than on {name}, for which it "
        "waits there: what to mend is that one's",
    )


def show_ranks(console: Console, runs: Sequence[Run]) -> None:
    """Print ms per step and phase, one column a rank."""
    last = slowest(runs)
    table = Table(title="ms/step of each rank", title_justify="left")
    table.add_column("phase")
    for place, run in enumerate(runs):
        heading = run.label.rsplit(" ", 2)
        name = " ".join(heading[-2:])
        table.add_column(f"{name}, slowest" if place == last else name, justify="right")
    times = [{row.phase: row.ms for row in run.rows} for run in runs]
    for phase in dict.fromkeys(name for found in times for name in found):
        table.add_row(escape(phase), *(f"{found.get(phase, 0.0):.3f}" for found in times))
    table.add_section()
    table.add_row("step", *(f"{run.ms_per_step:.3f}" for run in runs))
    console.print(table)
    if last is not None:
        console.print(
            "slowest: most time outside backward, where ranks wait for each other", markup=False
        )
    for run in runs:
        console.print(f"{run.label}: {run.note}", markup=False, soft_wrap=True)
