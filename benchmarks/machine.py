"""What a run was made on: the part of it that decides whether times may be compared."""

from __future__ import annotations

import platform
from typing import Any

import numba
import numpy as np
import torch

from tfa_perf.profile.machine import machine

__all__ = ["fingerprint", "update"]


def fingerprint() -> dict[str, str]:
    """CPU, cores, thread counts, GPU and versions: runs with the same one compare in seconds."""
    here = machine({})
    return {
        "cpu": here["cpu"],
        "cores": here["cores"],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch threads": str(torch.get_num_threads()),
        "numba threads": str(numba.config.NUMBA_NUM_THREADS),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "numba": numba.__version__,
    }


def update(machine_info: dict[str, Any]) -> None:
    """Add the fingerprint, and drop what differs from run to run on one machine.

    pytest-benchmark warns where any of it differs; clock rates and a container's name always do.
    """
    cpu = machine_info.get("cpu") or {}
    machine_info["cpu"] = {key: cpu[key] for key in ("brand_raw", "arch", "count") if key in cpu}
    for key in ("node", "release"):
        machine_info.pop(key, None)
    machine_info["fingerprint"] = fingerprint()
