"""Run a program under phase timers and a stack sampler, leaving its exit code and streams alone."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from tfa_perf.profile.atomic import write_each, write_text
from tfa_perf.profile.attach import sample_running
from tfa_perf.profile.children import read_children
from tfa_perf.profile.flame import collapsed, speedscope
from tfa_perf.profile.gpu_events import read_events
from tfa_perf.profile.gpu_trace import GpuTrace, summarize, write_trace
from tfa_perf.profile.launch import SAMPLERS, Ended, Sampler, Stream, WorkFiles, launch
from tfa_perf.profile.machine import machine, versions
from tfa_perf.profile.pyspy import RATE
from tfa_perf.profile.run_file import RUN_FILE, RunFile, SamplerUsed, StackTable, write_run
from tfa_perf.profile.samples import read_samples
from tfa_perf.profile.stacks import Stack, Window, leave_out, root_at_phases
from tfa_perf.profile.steps import COMPILE_PHASES, PhaseTimes, mark_of

SPEEDSCOPE_FILE = "profile.speedscope.json"
COLLAPSED_FILE = "stacks.collapsed"
TRACE_FILE = "trace.json.gz"


@dataclass(frozen=True)
class ProfileResult:
    """What a profiled run gave.

    `exit_code` is the program's own, 128 + n when signal n ended it. `sampler` is the one that ran
    (``pyspy``, ``inprocess`` or ``none``) and `reason` says in a few words why that one. `times` is
    None when the program ended without running its exit handlers. `run` is what ``run.json`` holds,
    `ranks` are the results of torchrun's ranks, in order, each in a folder of its own.
    `files` are those written and `problems` says which could not be.
    """

    command: tuple[str, ...]
    exit_code: int
    sampler: str
    reason: str
    rate: int
    wall_s: float
    stacks: list[Stack]
    times: PhaseTimes | None
    run: RunFile
    files: tuple[Path, ...]
    problems: tuple[str, ...] = ()
    ranks: tuple[ProfileResult, ...] = ()


class _Labels(NamedTuple):
    name: str
    config: Mapping[str, Any] | None
    started: datetime


def _collect(
    command: tuple[str, ...],
    ended: Ended,
    rate: int,
    files: WorkFiles,
    out_dir: Path,
    labels: _Labels,
) -> ProfileResult:
    times = None
    if files.phases.exists():
        times = PhaseTimes.from_json(json.loads(files.phases.read_text(encoding="utf-8")))
        times.other_threads.update(read_children(files.children, ended.pid))
    stacks: list[Stack] = []
    if ended.sampler != "none":
        try:
            samples = [s for path in files.sampled() for s in read_samples(path, ended.pid)]
            window = Window(*times.window, mark_of(times.warmup_steps)) if times else None
            stacks = root_at_phases(samples, window)
        except (OSError, ValueError) as error:
            ended = ended._replace(reason=f"{ended.reason}, but it left no usable stacks: {error}")
    gpu_trace, events = None, list[dict[str, Any]]()
    if times is not None and files.trace.exists():
        try:
            events = read_events(files.trace)
            gpu_trace = summarize(events)
        except ValueError as error:
            times = replace(times, gpu_trace_problem=f"no GPU trace: {error}")
    if times is not None and times.compile_steps:
        stacks = leave_out(stacks, COMPILE_PHASES)
    return _save(command, ended, rate, out_dir, labels, stacks, times, gpu_trace, events)


def _save(
    command: tuple[str, ...],
    ended: Ended,
    rate: int,
    out_dir: Path,
    labels: _Labels,
    stacks: list[Stack],
    times: PhaseTimes | None,
    gpu_trace: GpuTrace | None,
    events: Sequence[Mapping[str, Any]],
) -> ProfileResult:
    sampler, reason = ended.sampler, ended.reason
    environment = times.environment if times else {}
    run = RunFile(
        name=labels.name,
        command=list(command),
        config=dict(labels.config) if labels.config is not None else None,
        exit_code=ended.code,
        started=labels.started,
        finished=datetime.now(timezone.utc),
        wall_s=ended.wall_s,
        versions=versions(environment),
        machine=machine(environment),
        sampler=SamplerUsed(name=sampler, reason=reason, rate=rate),
        times=times,
        gpu_trace=gpu_trace,
        samples=StackTable.of(stacks),
    )
    writers: list[tuple[Path, Callable[[Path], Path]]] = [
        (out_dir / RUN_FILE, lambda path: write_run(path.parent, run))
    ]
    if stacks:
        document = json.dumps(speedscope(stacks, " ".join(command)))
        writers += [
            (out_dir / SPEEDSCOPE_FILE, lambda path: write_text(path, document)),
            (out_dir / COLLAPSED_FILE, lambda path: write_text(path, collapsed(stacks))),
        ]
    if events:
        # Last, as by far the largest.
        writers.append((out_dir / TRACE_FILE, lambda path: write_trace(path, events)))
    written, problems = write_each(writers)
    return ProfileResult(
        command,
        ended.code,
        sampler,
        reason,
        rate,
        ended.wall_s,
        stacks,
        times,
        run,
        tuple(written),
        tuple(problems),
    )


def profile_running(
    pid: int,
    out_dir: str | Path,
    *,
    rate: int = RATE,
    seconds: float | None = None,
    name: str | None = None,
) -> ProfileResult:
    """Sample the stacks of a running process (`sample_running`) and write them into `out_dir`.

    Raises
    ------
    AttachError : no such process, not Python, not allowed to look, or py-spy is missing.
    """
    out_dir = Path(out_dir)
    labels = _Labels(name or f"process {pid}", None, datetime.now(timezone.utc))
    command, stacks, reason, wall_s = sample_running(pid, rate=rate, seconds=seconds)
    out_dir.mkdir(parents=True, exist_ok=True)
    ended = Ended(pid, 0, "pyspy", reason, wall_s)
    return _save(tuple(command), ended, rate, out_dir, labels, stacks, None, None, [])


def run_profiled(
    command: Sequence[str],
    out_dir: str | Path,
    *,
    sampler: Sampler = "auto",
    rate: int = RATE,
    gpu_trace: int = 0,
    max_steps: int = 0,
    max_seconds: float = 0.0,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
) -> ProfileResult:
    """Run ``script.py args...`` or ``-m module args...`` in a new process and profile it.

    Writes `run.json`, and where stacks were sampled `profile.speedscope.json` and
    `stacks.collapsed`, into `out_dir`, which is made when missing. A GPU trace is `trace.json.gz`.

    Parameters
    ----------
    command : what to run, as it would follow ``python`` on a command line.
    sampler : ``auto`` is py-spy, else a sampler in the process itself; ``pyspy`` is py-spy or
        nothing; ``none`` leaves the timers alone.
    rate : samples per second.
    gpu_trace : how many steps after warm-up to trace on the GPU, kept out of the times; 0 for none.
    max_steps, max_seconds : end the program, as by ``sys.exit(0)``, after so many steps, or with a
        step that ends so many seconds after its first one; 0 for its own end. Three steps
        are done however long they take; torchrun's ranks run to their own end.
    name, config : what `run.json` calls the run (default: `out_dir`'s name), and the settings it
        ran under, where known.
    env, cwd, stdin, stdout, stderr : as for `subprocess.Popen`; inherited by default.

    Raises
    ------
    ValueError : a bad `sampler`, `rate`, `gpu_trace` or limit, or an empty `command`.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler is {sampler!r}; choose one of {', '.join(SAMPLERS)}")
    if not 1 <= rate <= 1000:
        raise ValueError(f"rate is {rate}; give 1 to 1000 samples per second")
    if not 0 <= gpu_trace <= 1000:
        raise ValueError(f"gpu_trace is {gpu_trace}; give 0 to 1000 steps")
    if not (max_steps >= 0 and 0 <= max_seconds < float("inf")):
        raise ValueError(
            f"max_steps, max_seconds: numbers from 0 are needed, got {max_steps}, {max_seconds}"
        )
    if not command or (command[0] == "-m" and len(command) < 2):
        raise ValueError("command is empty; give a script with its arguments, or -m and a module")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    streams = {"env": env, "cwd": cwd, "stdin": stdin, "stdout": stdout, "stderr": stderr}
    with tempfile.TemporaryDirectory(prefix="tfa-perf-profile-") as folder:
        files = WorkFiles(Path(folder))
        labels = _Labels(name or out_dir.resolve().name, config, datetime.now(timezone.utc))
        limits = {"max_steps": max_steps, "max_seconds": max_seconds}
        more = {"gpu_trace": gpu_trace, **limits}
        ended = launch(command, sampler, rate, more, files, streams)
        result = _collect(tuple(command), ended, rate, files, out_dir, labels)
        return replace(result, ranks=_collect_ranks(result, ended, files, out_dir, labels))


def _collect_ranks(
    whole: ProfileResult, ended: Ended, files: WorkFiles, out_dir: Path, labels: _Labels
) -> tuple[ProfileResult, ...]:
    """The results of the ranks that torchrun started, each in a folder of its own."""
    found = []
    for path in sorted(files.ranks.glob("*.pid"), key=lambda path: int(path.stem)):
        rank = int(path.stem)
        folder = out_dir / f"rank{rank}"
        with contextlib.suppress(OSError):
            # On a full disk its files cannot be written either, which is said of each.
            folder.mkdir(exist_ok=True)
        its = ended._replace(pid=int(path.read_text(encoding="utf-8")))
        named = labels._replace(name=f"{labels.name} rank {rank}")
        own = files.of_rank(rank)
        found.append(_collect(whole.command, its, whole.rate, own, folder, named))
    return tuple(found)
