"""``run.json``: what a profiled run measured, as one versioned file (docs/profile-format.md)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, computed_field, model_validator

from tfa_perf.profile.atomic import write_text
from tfa_perf.profile.gpu_trace import GpuTrace
from tfa_perf.profile.stacks import Stack, phase_shares
from tfa_perf.profile.steps import PhaseRow, PhaseTimes

__all__ = ["FORMAT", "RUN_FILE", "RunFile", "RunFileError", "StackTable", "read_run", "write_run"]

FORMAT = 1
RUN_FILE = "run.json"


class RunFileError(ValueError):
    """A run.json that cannot be read: one line that says why and what to do."""


class _Part(BaseModel):
    # Fields that a later release adds do not change what the others mean, so they are skipped.
    model_config = ConfigDict(frozen=True, extra="ignore")


class SamplerUsed(_Part):
    """Which sampler took the stacks (``pyspy``, ``inprocess``, ``none``), why, and how often."""

    name: str
    reason: str
    rate: int
    """Samples per second."""


class StackTable(_Part):
    """Stacks summed over the run, frames by their place in `frames`."""

    frames: list[str]
    stacks: list[tuple[str, float, list[int]]]
    """Thread, seconds, and the frames root first."""

    @model_validator(mode="after")
    def _indexes_exist(self) -> StackTable:
        for thread, _, indexes in self.stacks:
            if not indexes or not all(0 <= index < len(self.frames) for index in indexes):
                raise ValueError(
                    f"a stack of thread {thread!r} has frames {indexes}; there are "
                    f"{len(self.frames)}, numbered from 0"
                )
        return self

    @classmethod
    def of(cls, stacks: Iterable[Stack]) -> StackTable:
        """Sum equal stacks."""
        numbers: dict[str, int] = {}
        seconds: defaultdict[tuple[str, tuple[int, ...]], float] = defaultdict(float)
        for stack in stacks:
            indexes = tuple(numbers.setdefault(frame, len(numbers)) for frame in stack.frames)
            seconds[stack.thread, indexes] += stack.weight
        return cls(
            frames=list(numbers),
            stacks=[(thread, round(s, 6), list(key)) for (thread, key), s in seconds.items()],
        )

    def unpacked(self) -> list[Stack]:
        """One `Stack` for each distinct one."""
        return [
            Stack(thread, tuple(self.frames[i] for i in indexes), seconds)
            for thread, seconds, indexes in self.stacks
        ]


class RunFile(_Part):
    """One profiled run. docs/profile-format.md says what every field means."""

    format: Literal[1] = 1
    name: str
    command: list[str]
    config: dict[str, Any] | None = None
    exit_code: int
    started: datetime
    finished: datetime
    wall_s: float
    versions: dict[str, str]
    machine: dict[str, str]
    sampler: SamplerUsed
    times: PhaseTimes | None
    gpu_trace: GpuTrace | None = None
    samples: StackTable

    @model_validator(mode="after")
    def _blocks_are_whole(self) -> RunFile:
        times = self.times
        if times is None or times.blocks is None:
            return self
        size, count = times.blocks.size, len(times.blocks.wall_ns)
        if not size * (count - 1) < times.measured_steps <= size * count:
            raise ValueError(
                f"times.blocks: {count} blocks of {size} steps cannot hold "
                f"{times.measured_steps} measured steps"
            )
        for phase, column in times.blocks.phases_ns.items():
            if len(column) != count:
                raise ValueError(
                    f"times.blocks: {len(column)} blocks of phase {phase!r}, but {count} of the "
                    "wall clock"
                )
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def rows(self) -> list[PhaseRow]:
        """The phase table, worked out of `times` and `samples`; empty without times."""
        if self.times is None:
            return []
        return self.times.rows(phase_shares(self.samples.unpacked()))


def write_run(folder: str | Path, run: RunFile) -> Path:
    """Write `run` as ``run.json`` into `folder`, in one step, and return its path."""
    return write_text(Path(folder) / RUN_FILE, run.model_dump_json() + "\n")


def read_run(path: str | Path) -> RunFile:
    """Read a run back from its folder, or from the file itself.

    Raises
    ------
    RunFileError : there is no such file, it is of a newer format, or it is no run.json.
    """
    path = Path(path)
    file = path / RUN_FILE if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFileError(
            f"{file}: cannot be read ({error.strerror}); give the folder that "
            "python -m tfa_perf.profile wrote"
        ) from error
    except ValueError as error:
        raise RunFileError(f"{file}: not JSON ({error}); profile the run again") from error
    _check_format(file, data)
    try:
        return RunFile.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise RunFileError(
            f"{file}: {where}: {first['msg'].lower()}; profile the run again"
        ) from error


def _check_format(file: Path, data: Any) -> None:
    found = data.get("format") if isinstance(data, Mapping) else None
    if type(found) is not int or found < 1:
        raise RunFileError(f'{file}: no "format" number in it, so it is no run.json of a profile')
    if found > FORMAT:
        raise RunFileError(
            f"{file}: format {found} is newer than this tfa-perf reads ({FORMAT}); upgrade tfa-perf"
        )
