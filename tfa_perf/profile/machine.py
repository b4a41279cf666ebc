"""The machine and the library versions a profile was taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from tfa_perf import __version__

_LIBRARIES = ("python", "torch", "numba", "numpy")


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return f"{size / 2**30:.0f} GiB"


def machine(environment: Mapping[str, str]) -> dict[str, str]:
    """CPU, usable cores, memory and system, and the devices the profiled process told of."""
    return {
        "cpu": _cpu_model(),
        "cores": str(usable_cores()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        **{key: value for key, value in environment.items() if key not in _LIBRARIES},
    }


def versions(environment: Mapping[str, str]) -> dict[str, str]:
    """Versions of tfa-perf and of the libraries that the profiled process told of."""
    found = {key: environment[key] for key in _LIBRARIES if key in environment}
    return {"tfa-perf": __version__, **found}
