"""How much memory this process may still take."""

from __future__ import annotations

from pathlib import Path

__all__ = ["available_bytes"]

_CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Free bytes of the system, or of this container where those are fewer; None if unknown."""
    known = [free for free in (_system(), _container()) if free is not None]
    return min(known, default=None)


def _system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _container() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="utf-8").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="utf-8"))
        stat = (_CGROUP / "memory.stat").read_text(encoding="utf-8").split()
    except OSError:
        return None
    # Pages of files that nobody has used lately give way.
    reclaimable = dict(zip(stat[::2], stat[1::2], strict=False)).get("inactive_file", "0")
    return max(0, int(limit) - used + int(reclaimable)) if limit.isdecimal() else None
