"""Run a program under phase timers and a stack sampler, leaving its exit code and streams alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from tfa_perf.profile.flame import (
    Stack,
    Window,
    collapsed,
    phase_shares,
    read_samples,
    root_at_phases,
    speedscope,
)
from tfa_perf.profile.gpu_trace import GpuTrace, collect_trace
from tfa_perf.profile.machine import machine
from tfa_perf.profile.pyspy import PySpy, find_pyspy
from tfa_perf.profile.steps import PhaseTimes, mark_of

Sampler = Literal["auto", "pyspy", "inprocess", "none"]
SAMPLERS: tuple[Sampler, ...] = ("auto", "pyspy", "inprocess", "none")
SPEEDSCOPE_FILE = "profile.speedscope.json"
COLLAPSED_FILE = "stacks.collapsed"
PHASES_FILE = "phases.json"
TRACE_FILE = "trace.json.gz"

_FLUSH_LIMIT_S = 30.0

Stream = int | IO[Any] | None


@dataclass(frozen=True)
class ProfileResult:
    """What a profiled run gave.

    `exit_code` is the program's own, 128 + n when signal n ended it. `sampler` is the one that ran
    (``pyspy``, ``inprocess`` or ``none``) and `reason` says in a few words why that one. `times` is
    None when the program ended without running its exit handlers. `files` are those written.
    `gpu_trace` is None where no GPU work was traced; `times` says why where it was asked for.
    """

    command: tuple[str, ...]
    exit_code: int
    sampler: str
    reason: str
    rate: int
    wall_s: float
    stacks: list[Stack]
    times: PhaseTimes | None
    files: tuple[Path, ...]
    gpu_trace: GpuTrace | None = None


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


class _WorkFiles:
    """Where the program and py-spy write before the results are put together."""

    def __init__(self, folder: Path) -> None:
        self.stacks = folder / "stacks.json"
        self.phases = folder / "phases.json"
        self.log = folder / "py-spy.log"
        self.trace = folder / "trace.json"


def _choose(
    sampler: Sampler, child: subprocess.Popen[Any], rate: int, files: _WorkFiles
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
    files: _WorkFiles,
) -> _Ended:
    """Attach the sampler to the waiting child, let it run, and end everything with it."""
    spy, used, reason = None, "none", "the program did not start"
    try:
        if ready.readline():
            spy, used, reason = _choose(sampler, child, rate, files)
            started = time.monotonic()
            # A child that a signal ended while it waited has closed its end.
            with contextlib.suppress(BrokenPipeError):
                go.write(f"{used}\n".encode())
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


def _launch(
    command: Sequence[str],
    sampler: Sampler,
    rate: int,
    gpu_trace: int,
    files: _WorkFiles,
    streams: dict[str, Any],
) -> _Ended:
    ready_in, ready_out = os.pipe()
    go_in, go_out = os.pipe()
    options: dict[str, int | str] = {"ready": ready_out, "go": go_in, "rate": rate}
    options |= {"phases": str(files.phases), "stacks": str(files.stacks)}
    options |= {"gpu_trace": gpu_trace, "trace": str(files.trace)}
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


def _write(path: Path, text: str) -> None:
    """Replace `path` in one step: a reader or a full disk never leaves half a file."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _collect(
    command: tuple[str, ...], run: _Ended, rate: int, files: _WorkFiles, out_dir: Path
) -> ProfileResult:
    times = None
    if files.phases.exists():
        times = PhaseTimes.from_json(json.loads(files.phases.read_text(encoding="utf-8")))
    stacks: list[Stack] = []
    sampler, reason = run.sampler, run.reason
    if sampler != "none":
        try:
            samples = read_samples(files.stacks, run.pid)
            window = Window(*times.window, mark_of(times.warmup_steps)) if times else None
            stacks = root_at_phases(samples, window)
        except (OSError, ValueError) as error:
            reason += f", but it left no usable stacks: {error}"
    written = [out_dir / PHASES_FILE]
    trace = None
    if times is not None and files.trace.exists():
        try:
            trace = collect_trace(files.trace, out_dir / TRACE_FILE)
            written.append(out_dir / TRACE_FILE)
        except ValueError as error:
            times = replace(times, gpu_trace_problem=f"no GPU trace: {error}")
    shares = phase_shares(stacks)
    document = {
        "version": 1,
        "command": list(command),
        "exit_code": run.code,
        "wall_s": run.wall_s,
        "sampler": {"name": sampler, "reason": reason, "rate": rate},
        "machine": machine(times.environment if times else {}),
        "times": times.to_json() if times else None,
        "rows": [asdict(row) for row in times.rows(shares)] if times else [],
        "gpu_trace": asdict(trace) if trace else None,
    }
    _write(written[0], json.dumps(document, indent=1) + "\n")
    if stacks:
        title = " ".join(command)
        _write(out_dir / SPEEDSCOPE_FILE, json.dumps(speedscope(stacks, title)))
        _write(out_dir / COLLAPSED_FILE, collapsed(stacks))
        written += [out_dir / SPEEDSCOPE_FILE, out_dir / COLLAPSED_FILE]
    return ProfileResult(
        command, run.code, sampler, reason, rate, run.wall_s, stacks, times, tuple(written), trace
    )


def run_profiled(
    command: Sequence[str],
    out_dir: str | Path,
    *,
    sampler: Sampler = "auto",
    rate: int = 100,
    gpu_trace: int = 0,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
) -> ProfileResult:
    """Run ``script.py args...`` or ``-m module args...`` in a new process and profile it.

    Writes `phases.json`, and where stacks were sampled `profile.speedscope.json` and
    `stacks.collapsed`, into `out_dir`, which is made when missing. A GPU trace is `trace.json.gz`.

    Parameters
    ----------
    command : what to run, as it would follow ``python`` on a command line.
    sampler : ``auto`` is py-spy, else a sampler in the process itself; ``pyspy`` is py-spy or
        nothing; ``none`` leaves the timers alone.
    rate : samples per second.
    gpu_trace : how many steps after warm-up to trace on the GPU, kept out of the times; 0 for none.
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
        files = _WorkFiles(Path(folder))
        run = _launch(command, sampler, rate, gpu_trace, files, streams)
        return _collect(tuple(command), run, rate, files, out_dir)
