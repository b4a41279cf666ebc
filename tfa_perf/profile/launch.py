"""Start a program that waits, attach a sampler to it, and let it run to its own end."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from tfa_perf.profile.process_tree import descendants_of, end_processes
from tfa_perf.profile.pyspy import find_pyspy
from tfa_perf.profile.spies import Spies

Sampler = Literal["auto", "pyspy", "inprocess", "none"]
SAMPLERS: tuple[Sampler, ...] = ("auto", "pyspy", "inprocess", "none")

_NOT_STARTED = "the program did not start"
_FLUSH_LIMIT_S = 30.0
_LOOK_S = 0.2

Stream = int | IO[Any] | None


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
def _signals_to(child: list[subprocess.Popen[Any]]) -> Iterator[list[int]]:
    """Leave SIGINT, SIGTERM and SIGHUP to the program; we end when it does. Yields those that came.

    What it has started, as workers of a fork server, which hear of nothing, ends with it.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    started: dict[int, str] = {}

    def forward(number: int, frame: object) -> None:
        came.append(number)
        for process in child:
            started.update(descendants_of(process.pid))
        if number == signal.SIGINT and _keyboard_reaches_us():
            return
        for process in child:
            process.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        end_processes(started)


class WorkFiles:
    """Where the program and py-spy write before the results are put together."""

    def __init__(self, folder: Path) -> None:
        self.stacks = folder / "stacks.json"
        self.all_stacks = folder / "all-stacks.json"
        self.phases = folder / "phases.json"
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
        # py-spy's stacks of the program alone are torchrun's own.
        files.stacks = self.ranks / f"{rank}.stacks"
        return files

    def sampled(self) -> list[Path]:
        """The files with stacks, in order of time; with none, the one that is missing."""
        found = [path for path in (self.stacks, self.all_stacks) if path.exists()]
        return found or [self.stacks]


def _choose(
    sampler: Sampler, child: subprocess.Popen[Any], rate: int, files: WorkFiles
) -> tuple[Spies | None, str, str]:
    """Start the sampler asked for, or the next best: (py-spy if running, which, why)."""
    if sampler == "none":
        return None, "none", "asked for timers alone"
    if sampler == "inprocess":
        return None, "inprocess", "asked for"
    program = find_pyspy()
    problem: str | None = "py-spy is not installed (pip install py-spy)"
    if program is not None:
        spies = Spies(program, child.pid, rate, files.stacks, files.all_stacks)
        problem = spies.wait_attached(child)
        if problem is None:
            return spies, "pyspy", "attached from outside"
        spies.finish(0.1)
    return None, "inprocess" if sampler == "auto" else "none", str(problem)


class Ended(NamedTuple):
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
    came: list[int],
) -> Ended:
    """Attach the sampler to the waiting child, let it run, and end everything with it.

    A signal that has come before the child waits ends it: Python, while it starts up, may lose one,
    or end of it with code 1.
    """
    spies, used, reason = None, "none", _NOT_STARTED
    try:
        if ready.readline() and not came:
            spies, used, reason = _choose(sampler, child, rate, files)
            started = time.monotonic()
            # A child that a signal ended while it waited has closed its end.
            with contextlib.suppress(BrokenPipeError):
                order = used if spies is None else f"{used} {spies.pids}"
                go.write(f"{order}\n".encode())
        else:
            started = time.monotonic()
            if came:
                child.kill()
        code = _wait(child, spies)
        wall_s = time.monotonic() - started
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        if spies is not None:
            spies.finish(_FLUSH_LIMIT_S)
            reason += spies.lost()
    return Ended(child.pid, 128 - code if code < 0 else code, used, reason, wall_s)


def _wait(child: subprocess.Popen[Any], spies: Spies | None) -> int:
    """The exit code of the program, once it has ended."""
    while spies is not None and not spies.look():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(_LOOK_S)
    return child.wait()


def launch(
    command: Sequence[str],
    sampler: Sampler,
    rate: int,
    more: Mapping[str, int | float | str],
    files: WorkFiles,
    streams: dict[str, Any],
) -> Ended:
    """Run the program in a process of its own; `more` are further options of `_target`."""
    ready_in, ready_out = os.pipe()
    go_in, go_out = os.pipe()
    options: dict[str, int | float | str] = {"ready": ready_out, "go": go_in, "rate": rate}
    options |= {"phases": str(files.phases), "stacks": str(files.stacks)}
    options |= {"trace": str(files.trace), **more}
    options |= {"children": str(files.children), "ranks": str(files.ranks)}
    target = [sys.executable, "-m", "tfa_perf.profile._target", json.dumps(options), *command]
    children: list[subprocess.Popen[Any]] = []
    with (
        os.fdopen(ready_in, "rb") as ready,
        os.fdopen(go_out, "wb", buffering=0) as go,
        _signals_to(children) as came,
    ):
        try:
            children.append(subprocess.Popen(target, pass_fds=(ready_out, go_in), **streams))
        finally:
            os.close(ready_out)
            os.close(go_in)
        ended = _supervise(children[0], ready, go, sampler, rate, files, came)
    if ended.reason == _NOT_STARTED and came:
        return ended._replace(code=128 + came[0])
    return ended
