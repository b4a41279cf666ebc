"""Two profiled runs compared: whether they may be, and phase by phase what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfa_perf.profile.intervals import MIN_RUNS, Interval, batch_means, mean_difference
from tfa_perf.profile.lap_blocks import StepBlocks
from tfa_perf.profile.laps import OTHER
from tfa_perf.profile.run_file import RunFile
from tfa_perf.profile.steps import PhaseTimes

__all__ = ["Change", "Comparison", "Mismatch", "NotComparableError", "compare_runs", "mismatches"]

STEP = "step"
_VERSIONS = ("python", "torch", "numba", "numpy")
_MACHINE = ("cpu", "cores", "memory", "gpu", "torch threads")


class NotComparableError(ValueError):
    """Two runs whose difference would not be of the change: one line that names why."""


@dataclass(frozen=True)
class Mismatch:
    """Something other than the code that differs between two runs; None where one lacks it."""

    key: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        before, after = ("none" if v is None else v for v in (self.before, self.after))
        return f"{self.key}: {before} before, {after} after"


@dataclass(frozen=True)
class Change:
    """A phase, or the whole step, in ms per step before and after; shares are of the step."""

    name: str
    before_ms: float
    after_ms: float
    before_share: float
    after_share: float
    interval: Interval | None

    @property
    def ms(self) -> float:
        return self.after_ms - self.before_ms

    @property
    def detected(self) -> bool:
        """True when the interval does not cover 0."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)

    @property
    def verdict(self) -> str:
        if self.interval is None:
            return "too few steps to tell"
        if not self.detected:
            return "no change detected"
        return "slower" if self.ms > 0 else "faster"


@dataclass(frozen=True)
class Comparison:
    """What changed from `before` to `after`. `mismatches` are those that were let pass.

    `runs` is how many runs of either side the figures are the means of.
    """

    before: RunFile
    after: RunFile
    step: Change
    phases: tuple[Change, ...]
    mismatches: tuple[Mismatch, ...]
    runs: tuple[int, int] = (1, 1)

    @property
    def note(self) -> str:
        """What the intervals cover."""
        if self.runs == (1, 1):
            return (
                "Differences of mean ms/step with 95 % intervals from batches of steps. They cover "
                "variation inside the two runs alone: on a shared machine runs of unchanged code "
                "differ by more, which --more-before and --more-after take in."
            )
        return (
            f"Differences of mean ms/step of {self.runs[0]} runs before and {self.runs[1]} after, "
            "with 95 % intervals from the runs' means."
        )

    def __getitem__(self, phase: str) -> Change:
        """The change of a phase; of one that neither run opened, from nothing to nothing."""
        found = (change for change in self.phases if change.name == phase)
        return next(found, Change(phase, 0.0, 0.0, 0.0, 0.0, None))


def _settings(run: RunFile) -> dict[str, str]:
    """What a run was told to do: its config where it has one, else the program's arguments."""
    if run.config is not None:
        return dict(_flat(run.config, ""))
    arguments = run.command[2:] if run.command[:1] == ["-m"] else run.command[1:]
    found: dict[str, str] = {}
    waiting: str | None = None
    place = 0
    for argument in arguments:
        if argument.startswith("-") and not _is_number(argument):
            name, equals, value = argument.lstrip("-").partition("=")
            found[name] = value if equals else "given"
            waiting = None if equals else name
        elif waiting is not None:
            found[waiting], waiting = argument, None
        else:
            place += 1
            found[f"argument {place}"] = argument
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _flat(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def mismatches(before: RunFile, after: RunFile) -> list[Mismatch]:
    """What differs besides the code: machine, device, versions, config or arguments."""
    pairs: dict[str, tuple[str | None, str | None]] = {}
    for key in _MACHINE:
        pairs[key] = before.machine.get(key), after.machine.get(key)
    for key in _VERSIONS:
        pairs[key] = before.versions.get(key), after.versions.get(key)
    if (before.config is None) != (after.config is None):
        kinds = ("another program" if r.config is None else "our trainer" for r in (before, after))
        pairs["program"] = next(kinds), next(kinds)
    else:
        ours, theirs = _settings(before), _settings(after)
        for key in {**ours, **theirs}:
            pairs[key] = ours.get(key), theirs.get(key)
    return [Mismatch(key, a, b) for key, (a, b) in pairs.items() if a != b]


def _is_named(key: str, changed: Sequence[str]) -> bool:
    names = [name.lstrip("-") for name in changed]
    return any(key == name or key.startswith(f"{name}.") for name in names)


def compare_runs(
    before: RunFile,
    after: RunFile,
    *,
    more_before: Sequence[RunFile] = (),
    more_after: Sequence[RunFile] = (),
    changed: Sequence[str] = (),
    force: bool = False,
) -> Comparison:
    """Compare two runs, or two series of runs.

    Parameters
    ----------
    more_before, more_after : repeats of either run, at least 2 of each or none. The intervals then
        come from the runs' means, and cover what the machine does between runs.
    changed : what was changed on purpose and may differ, as ``train.batch_size`` or ``batch``.
    force : compare whatever differs.

    Raises
    ------
    NotComparableError : a run has no measured steps, something differs that is not in `changed`, or
        there are too few repeats.
    """
    sides = (before, *more_before), (after, *more_after)
    runs = len(sides[0]), len(sides[1])
    if runs != (1, 1) and min(runs) < MIN_RUNS:
        raise NotComparableError(
            f"{runs[0]} runs before and {runs[1]} after; give {MIN_RUNS} or more of each, or one"
        )
    measured = _Side("before", sides[0]), _Side("after", sides[1])
    pairs = [(before, run) for run in (*more_before, *sides[1])]
    found = {str(mismatch): mismatch for pair in pairs for mismatch in mismatches(*pair)}
    refused = [m for m in found.values() if not _is_named(m.key, changed)]
    if refused and not force:
        options = " ".join(f"--changed '{key}'" for key in dict.fromkeys(m.key for m in refused))
        raise NotComparableError(
            f"the runs differ in more than the code: {'; '.join(map(str, refused))}. If that is "
            f"the change to measure, say {options}; --force compares anyway"
        )
    step, *phases = _changes(measured)
    return Comparison(before, after, step, tuple(phases), tuple(found.values()), runs)


class _Side:
    """The runs of one side."""

    def __init__(self, which: str, runs: Sequence[RunFile]) -> None:
        self.times: list[PhaseTimes] = []
        for run in runs:
            if run.times is None or run.times.blocks is None or not run.times.measured.wall_s:
                raise NotComparableError(
                    f"the run {which}, {run.name}, has no measured steps; profile it for at least "
                    "two"
                )
            self.times.append(run.times)

    def ms(self, name: str) -> list[float]:
        """Mean ms per step of each run."""
        return [1e3 * _seconds(times, name) / times.measured_steps for times in self.times]

    def share(self, name: str) -> float:
        return sum(self.ms(name)) / sum(self.ms(STEP))

    def batches(self, name: str) -> list[float]:
        """Mean ms per step of batches of steps of the one run."""
        times = self.times[0]
        blocks = times.blocks or StepBlocks(1, ())
        count = len(blocks.wall_ns)
        steps = [blocks.size] * count
        steps[-1] = times.measured_steps - blocks.size * (count - 1)
        sums = blocks.wall_ns if name == STEP else blocks.phases_ns.get(name, [0] * count)
        return [mean / 1e6 for mean in batch_means(sums, steps)]


def _seconds(times: PhaseTimes, name: str) -> float:
    lap = times.measured
    return lap.wall_s if name == STEP else lap.phases.get(name, 0.0)


def _changes(sides: tuple[_Side, _Side]) -> Iterator[Change]:
    yield _change(STEP, sides)
    names = {name: None for side in sides for t in side.times for name in t.measured.phases}
    longest = {name: max(max(side.ms(name)) for side in sides) for name in names}
    for name in sorted(names, key=lambda name: (name == OTHER, -longest[name], name)):
        yield _change(name, sides)


def _change(name: str, sides: tuple[_Side, _Side]) -> Change:
    before, after = (side.ms(name) for side in sides)
    if len(before) > 1:
        interval = mean_difference(before, after, MIN_RUNS)
    else:
        interval = mean_difference(sides[0].batches(name), sides[1].batches(name))
    return Change(
        name=name,
        before_ms=sum(before) / len(before),
        after_ms=sum(after) / len(after),
        before_share=sides[0].share(name),
        after_share=sides[1].share(name),
        interval=interval,
    )
