"""A profiled run as pages and texts show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tfa_perf.profile.notes import disagreements, step_note
from tfa_perf.profile.pyspy import RATE
from tfa_perf.profile.run_file import RunFile
from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.stacks import OUTSIDE_STEPS, Stack
from tfa_perf.profile.steps import PhaseRow
from tfa_perf.profile.verdict import verdict


@dataclass(frozen=True)
class Run:
    """One profiled run as shown.

    `ms_per_step` sets its width beside another run. `steps` counts the measured steps; with 0 all
    times are of the whole run. `detail` is a line of text on what ran, `note` one on the steps,
    `verdict` one of advice.
    """

    label: str
    stacks: Sequence[Stack]
    steps: int
    ms_per_step: float
    rows: Sequence[PhaseRow]
    detail: str = ""
    rate: int = RATE
    note: str = ""
    verdict: str = ""

    @classmethod
    def of(cls, run: RunFile, label: str | None = None) -> Run:
        """A run as measured, under its own name or another."""
        times, sampler = run.times, run.sampler
        details = [" ".join(("python", *run.command)), f"{sampler.name}: {sampler.reason}"]
        found = {**run.machine, **run.versions}
        return cls(
            label=run.name if label is None else label,
            stacks=run.samples.unpacked(),
            steps=times.measured_steps if times else 0,
            ms_per_step=times.ms_per_step if times else 1e3 * run.wall_s,
            rows=run.rows,
            detail=" · ".join([*details, *(f"{key} {value}" for key, value in found.items())]),
            rate=sampler.rate,
            note=step_note(times),
            verdict=verdict(run),
        )

    @property
    def unit(self) -> str:
        return "ms/step" if self.steps else "ms"

    @cached_property
    def samples(self) -> int:
        """How many stacks of the main thread were taken in the measured steps."""
        inside = (
            stack.weight
            for stack in self.stacks
            if stack.thread == MAIN and stack.frames[0] != OUTSIDE_STEPS
        )
        return round(sum(inside) * self.rate)

    @property
    def warnings(self) -> list[str]:
        """A line for each phase on which timers and stacks disagree."""
        return disagreements(self.rows, self.samples)
