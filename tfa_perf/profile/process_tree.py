"""The processes that a process has started, as Linux tells them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["children_of", "descendants_of", "end_processes"]

_LOOK_S = 0.02


def children_of(pid: int) -> list[int] | None:
    """Ids of the processes that a process has started; None where that cannot be told."""
    tasks = f"/proc/{pid}/task"
    try:
        children = Path(tasks, str(pid), "children").read_text().split()
    except FileNotFoundError:
        return [] if os.path.isdir("/proc/self") and not os.path.isdir(tasks) else None
    except OSError:
        return None
    for thread in _listed(tasks):
        if thread != str(pid):
            children += _read(f"{tasks}/{thread}/children").split()
    return [int(child) for child in children]


def descendants_of(pid: int) -> dict[int, str]:
    """Ids of a process's children and theirs, each with when it started; none where untold."""
    found: dict[int, str] = {}
    for child in children_of(pid) or ():
        found[child] = _started(child)
        found |= descendants_of(child)
    return found


def end_processes(processes: Mapping[int, str], grace_s: float = 0.5) -> None:
    """Terminate those of `descendants_of` that still run, and kill what does not go in time."""
    for number, limit_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, grace_s)):
        left = _running(processes)
        for pid in left:
            with suppress(OSError):
                os.kill(pid, number)
        deadline = time.monotonic() + limit_s
        while left and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
            left = _running(processes)


def _running(processes: Mapping[int, str]) -> list[int]:
    # The id may be another process's by now.
    return [pid for pid, started in processes.items() if started and _started(pid) == started]


def _started(pid: int) -> str:
    """Clock ticks from boot to a process's start; empty of one that has ended."""
    # The program's name, in parentheses, may hold anything.
    state, _, rest = _read(f"/proc/{pid}/stat").rpartition(")")[2].strip().partition(" ")
    return "" if state in ("", "Z", "X") else rest.split()[18]


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
