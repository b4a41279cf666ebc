"""Run a program under phase timers and a stack sampler, leaving its exit code and streams alone."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from tfa_perf.profile.atomic import write_text
from tfa_perf.profile.attach import sample_running
from tfa_perf.profile.children import read_children
from tfa_perf.profile.flame import (
    Stack,
    Window,
    collapsed,
    leave_out,
    read_samples,
    root_at_phases,
    speedscope,
)
from tfa_perf.profile.gpu_trace import GpuTrace, collect_trace
from tfa_perf.profile.machine import machine, versions
from tfa_perf.profile.pyspy import PySpy, find_pyspy
from tfa_perf.profile.run_file import RunFile, SamplerUsed, StackTable, write_run
from tfa_perf.profile.steps import COMPILE_PHASES, PhaseTimes, mark_of

Sampler = Literal["auto", "pyspy", "inprocess", "none"]
SAMPLERS: tuple[Sampler, ...] = ("auto", "pyspy", "inprocess", "none")
SPEEDSCOPE_FILE = "profile.speedscope.json"
COLLAPSED_FILE = "stacks.collapsed"
TRACE_FILE = "trace.json.gz"

_FLUSH_LIMIT_S = 30.0

Stream = int | IO[Any] | None


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


def _keyboard_reaches_us() -> bool:
    """True when we are the terminal's foreground group: Ctrl-C then reaches the program as well."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


@contextmanager
def _signals_to(child: list[subprocess.Popen[Any]]) -> Iterator[None]:
    """Leave SIGINT, SIGTERM and SIGHUP to the program; we end when it does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def forward(number: int, frame: object) -> None:
        if number == signal.SIGINT and _keyboard_reaches_us():
            return
        for process in child:
            process.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class WorkFiles:
    """Where the program and py-spy write before the results are put together."""

    def __init__(self, folder: Path) -> None:
        self.stacks = folder / "stacks.json"
        self.phases = folder / "phases.json"
        self.log = folder / "py-spy.log"
        self.trace = folder / "trace.json"
        self.children = folder / "children"
        self.children.mkdir()
        self.ranks = folder / "ranks"
        self.ranks.mkdir()
        self.memory = folder / "memory.bin"

    def of_rank(self, rank: int) -> WorkFiles:
        """The files of one of torchrun's ranks; py-spy's are those of all processes."""
        files = copy.copy(self)
        files.phases = self.ranks / f"{rank}.json"
        files.trace = self.ranks / f"{rank}.trace"
        own = self.ranks / f"{rank}.stacks"
        if own.exists():
            files.stacks = own
        return files


def _choose(
    sampler: Sampler, child: subprocess.Popen[Any], rate: int, files: WorkFiles
) -> tuple[PySpy | None, str, str]:
    """Start the sampler asked for, or the next best: (py-spy if running, which, why)."""
    if sampler == "none":
        return None, "none", "asked for timers alone"
    if sampler == "inprocess":
        return None, "inprocess", "asked for"
    program = find_pyspy()
    problem: str | None = "py-spy is not installed (pip install py-spy)"
    if program is not None:
        spy = PySpy(program, child.pid, rate, files.stacks, files.log)
        problem = spy.wait_attached(child)
        if problem is None:
            return spy, "pyspy", "attached from outside"
        spy.finish(0.1)
    return None, "inprocess" if sampler == "auto" else "none", str(problem)


class _Ended(NamedTuple):
    pid: int
    code: int
    sampler: str
    reason: str
    wall_s: float


def _supervise(
    child: subprocess.Popen[Any],
    ready: IO[bytes],
    go: IO[bytes],
    sampler: Sampler,
    rate: int,
    files: WorkFiles,
) -> _Ended:
    """Attach the sampler to the waiting child, let it run, and end everything with it."""
    spy, used, reason = None, "none", "the program did not start"
    try:
        if ready.readline():
            spy, used, reason = _choose(sampler, child, rate, files)
            started = time.monotonic()
            # A child that a signal ended while it waited has closed its end.
            with contextlib.suppress(BrokenPipeError):
                order = used if spy is None else f"{used} {spy.pid}"
                go.write(f"{order}\n".encode())
        else:
            started = time.monotonic()
        code = child.wait()
        wall_s = time.monotonic() - started
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        if spy is not None:
            spy.finish(_FLUSH_LIMIT_S)
            reason += spy.lost()
    return _Ended(child.pid, 128 - code if code < 0 else code, used, reason, wall_s)


def launch(
    command: Sequence[str],
    sampler: Sampler,
    rate: int,
    more: Mapping[str, int | str],
    files: WorkFiles,
    streams: dict[str, Any],
) -> _Ended:
    """Run the program in a process of its own; `more` are further options of `_target`."""
    ready_in, ready_out = os.pipe()
    go_in, go_out = os.pipe()
    options: dict[str, int | str] = {"ready": ready_out, "go": go_in, "rate": rate}
    options |= {"phases": str(files.phases), "stacks": str(files.stacks)}
    options |= {"trace": str(files.trace), **more}
    options |= {"children": str(files.children), "ranks": str(files.ranks)}
    target = [sys.executable, "-m", "tfa_perf.profile._target", json.dumps(options), *command]
    children: list[subprocess.Popen[Any]] = []
    with (
        os.fdopen(ready_in, "rb") as ready,
        os.fdopen(go_out, "wb", buffering=0) as go,
        _signals_to(children),
    ):
        try:
            children.append(subprocess.Popen(target, pass_fds=(ready_out, go_in), **streams))
        finally:
            os.close(ready_out)
            os.close(go_in)
        return _supervise(children[0], ready, go, sampler, rate, files)


class _Labels(NamedTuple):
    name: str
    config: Mapping[str, Any] | None
    started: datetime


def _collect(
    command: tuple[str, ...],
    ended: _Ended,
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
            samples = read_samples(files.stacks, ended.pid)
            window = Window(*times.window, mark_of(times.warmup_steps)) if times else None
            stacks = root_at_phases(samples, window)
        except (OSError, ValueError) as error:
            ended = ended._replace(reason=f"{ended.reason}, but it left no usable stacks: {error}")
    gpu_trace, traced = None, list[Path]()
    if times is not None and files.trace.exists():
        try:
            gpu_trace = collect_trace(files.trace, out_dir / TRACE_FILE)
            traced.append(out_dir / TRACE_FILE)
        except ValueError as error:
            times = replace(times, gpu_trace_problem=f"no GPU trace: {error}")
    if times is not None and times.compile_steps:
        stacks = leave_out(stacks, COMPILE_PHASES)
    return _save(command, ended, rate, out_dir, labels, stacks, times, gpu_trace, traced)


def _try(write: Callable[[], Path], out_dir: Path, problems: list[str]) -> list[Path]:
    """What was written; a file that does not fit leaves the others and the program's exit code."""
    try:
        return [write()]
    except OSError as error:
        problems.append(f"cannot write {error.filename or out_dir}: {error.strerror}")
        return []


def _save(
    command: tuple[str, ...],
    ended: _Ended,
    rate: int,
    out_dir: Path,
    labels: _Labels,
    stacks: list[Stack],
    times: PhaseTimes | None,
    gpu_trace: GpuTrace | None,
    traced: Sequence[Path],
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
    writers: list[Callable[[], Path]] = [lambda: write_run(out_dir, run)]
    if stacks:
        document = json.dumps(speedscope(stacks, " ".join(command)))
        writers += [
            lambda: write_text(out_dir / SPEEDSCOPE_FILE, document),
            lambda: write_text(out_dir / COLLAPSED_FILE, collapsed(stacks)),
        ]
    problems: list[str] = []
    written = [*traced, *(path for write in writers for path in _try(write, out_dir, problems))]
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
    rate: int = 100,
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
    ended = _Ended(pid, 0, "pyspy", reason, wall_s)
    return _save(tuple(command), ended, rate, out_dir, labels, stacks, None, None, [])


def run_profiled(
    command: Sequence[str],
    out_dir: str | Path,
    *,
    sampler: Sampler = "auto",
    rate: int = 100,
    gpu_trace: int = 0,
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
    name, config : what `run.json` calls the run (default: `out_dir`'s name), and the settings it
        ran under, where known.
    env, cwd, stdin, stdout, stderr : as for `subprocess.Popen`; inherited by default.

    Raises
    ------
    ValueError : a bad `sampler`, `rate` or `gpu_trace`, or an empty `command`.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler is {sampler!r}; choose one of {', '.join(SAMPLERS)}")
    if not 1 <= rate <= 1000:
        raise ValueError(f"rate is {rate}; give 1 to 1000 samples per second")
    if not 0 <= gpu_trace <= 1000:
        raise ValueError(f"gpu_trace is {gpu_trace}; give 0 to 1000 steps")
    if not command or (command[0] == "-m" and len(command) < 2):
        raise ValueError("command is empty; give a script with its arguments, or -m and a module")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    streams = {"env": env, "cwd": cwd, "stdin": stdin, "stdout": stdout, "stderr": stderr}
    with tempfile.TemporaryDirectory(prefix="tfa-perf-profile-") as folder:
        files = WorkFiles(Path(folder))
        labels = _Labels(name or out_dir.resolve().name, config, datetime.now(timezone.utc))
        ended = launch(command, sampler, rate, {"gpu_trace": gpu_trace}, files, streams)
        result = _collect(tuple(command), ended, rate, files, out_dir, labels)
        return replace(result, ranks=_collect_ranks(result, ended, files, out_dir, labels))


def _collect_ranks(
    whole: ProfileResult, ended: _Ended, files: WorkFiles, out_dir: Path, labels: _Labels
) -> tuple[ProfileResult, ...]:
    """The results of the ranks that torchrun started, each in a folder of its own."""
    found = []
    for path in sorted(files.ranks.glob("*.pid"), key=lambda path: int(path.stem)):
        rank = int(path.stem)
        folder = out_dir / f"rank{rank}"
        folder.mkdir(exist_ok=True)
        its = ended._replace(pid=int(path.read_text(encoding="utf-8")))
        named = labels._replace(name=f"{labels.name} rank {rank}")
        own = files.of_rank(rank)
        found.append(_collect(whole.command, its, whole.rate, own, folder, named))
    return tuple(found)
