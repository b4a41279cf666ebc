"""A limit to the memory of a process, its page cache included: a control group (Linux)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MemoryLimit", "memory_limit"]

_MOUNT = Path("/sys/fs/cgroup")
_REMOVAL_S = 5.0


@dataclass(frozen=True)
class MemoryLimit:
    """A process joins by writing its number to ``joins``."""

    folder: Path
    version: int

    @property
    def joins(self) -> Path:
        return self.folder / "cgroup.procs"

    @property
    def times_reached(self) -> int:
        """How often something had to go because the limit was reached."""
        if self.version == 1:
            return int((self.folder / "memory.failcnt").read_text())
        events = (self.folder / "memory.events").read_text().split()
        return int(events[events.index("max") + 1])


@contextmanager
def memory_limit(size: int) -> Iterator[MemoryLimit | None]:
    """A control group of ``size`` bytes below this process's own, removed on leaving.

    None where none can be made: that takes root, or a group that is delegated to the user.
    """
    limit = _made(size)
    try:
        yield limit
    finally:
        if limit is not None:
            _remove(limit.folder)


def _made(size: int) -> MemoryLimit | None:
    own = Path("/proc/self/cgroup")
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            parent, file, version = _MOUNT / "memory", "memory.limit_in_bytes", 1
        elif not controllers:
            parent, file, version = _MOUNT, "memory.max", 2
        else:
            continue
        folder = parent / path.lstrip("/") / f"tfa_perf_{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            # "r+": what the system does not offer must not come to be.
            with (folder / file).open("r+") as opened:
                opened.write(str(size))
            return MemoryLimit(folder, version)
        except OSError:
            _remove(folder)
    return None


def _remove(folder: Path) -> None:
    until = time.monotonic() + _REMOVAL_S
    while folder.exists() and time.monotonic() < until:
        # A process that has just ended may still be counted.
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.05)
