"""What a run was made on: the part of it that decides whether times may be compared."""

from __future__ import annotations

import os
import platform
from typing import Any

import numba
import numpy as np
import torch

from tfa_perf.profile.machine import machine

__all__ = ["fingerprint", "info"]


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


def info() -> dict[str, Any]:
    """What a saved run says of its machine: what does not differ from run to run on one machine.

    pytest-benchmark warns where any of it differs; the clock rates and the name of a container,
    which it would add, always do.
    """
    here = fingerprint()
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "python_implementation": platform.python_implementation(),
        "python_version": platform.python_version(),
        "cpu": {"brand_raw": here["cpu"], "count": os.cpu_count()},
        "fingerprint": here,
    }
