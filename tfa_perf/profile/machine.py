"""The machine and library versions a profile was taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine(environment: Mapping[str, str]) -> dict[str, str]:
    """CPU, usable cores and system, followed by what the profiled process told of itself."""
    return {
        "cpu": _cpu_model(),
        "cores": str(_usable_cores()),
        "system": f"{platform.system()} {platform.release()}",
        **environment,
    }
