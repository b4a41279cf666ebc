"""Measure the claims, one group after the other."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterator

import numba
import numpy as np
import torch

from tfa_perf.claims.epochs import measure_early_stopping, measure_total
from tfa_perf.claims.finding import Finding, not_measured
from tfa_perf.claims.fresh import ChildFailed
from tfa_perf.claims.loading import measure_loading, measure_mapping
from tfa_perf.claims.loop import measure_loop
from tfa_perf.claims.memory import measure_memory
from tfa_perf.claims.shares import measure_shares
from tfa_perf.claims.steps import measure_compute, measure_steps
from tfa_perf.claims.table import CLAIMS
from tfa_perf.claims.workload import Workload
from tfa_perf.profile.machine import machine

__all__ = ["describe_machine", "measure"]

_Measure = Callable[[Workload, Collection[str]], Iterator[Finding]]

_GROUPS: tuple[tuple[tuple[str, ...], _Measure], ...] = (
    (("share-data", "share-compute", "share-memory", "share-other"), measure_shares),
    (("data-loading",), measure_loading),
    (("compute",), measure_compute),
    (("memory",), measure_memory),
    (("loop",), measure_loop),
    (("total",), measure_total),
    (
        ("window", "smaller-model", "accumulation", "progress", "mixed-precision"),
        measure_steps,
    ),
    (("memory-map",), measure_mapping),
    (("early-stopping",), measure_early_stopping),
)


def measure(
    work: Workload, wanted: Collection[str], announce: Callable[[str], None]
) -> list[Finding]:
    """Findings of the wanted claims in the order of the table.

    ``announce`` is told what is about to be measured. A measurement that runs out of memory, or
    whose process fails, is NOT MEASURED with the reason.
    """
    found: list[Finding] = []
    for ids, group in _GROUPS:
        mine = [id for id in ids if id in wanted]
        if not mine:
            continue
        announce(", ".join(mine))
        try:
            found.extend(group(work, mine))
        except (ChildFailed, MemoryError, torch.OutOfMemoryError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            missing = [id for id in mine if id not in {f.claim for f in found}]
            found.extend(not_measured(id, "-", reason) for id in missing or mine[-1:])
    order = {about.id: place for place, about in enumerate(CLAIMS)}
    return sorted(found, key=lambda f: order[f.claim])


def describe_machine(device: torch.device) -> dict[str, str]:
    """CPU, cores and system, thread count, device and versions."""
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {
        **machine({"threads": str(torch.get_num_threads()), **gpu}),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numba": numba.__version__,
        "numpy": np.__version__,
    }
