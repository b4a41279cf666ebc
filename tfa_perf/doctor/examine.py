"""All checks, in the order that a reader wants them."""

from __future__ import annotations

from pathlib import Path

from tfa_kernels import cache_folders
from tfa_perf.doctor import devices, libraries, permissions
from tfa_perf.doctor.check import Check
from tfa_perf.doctor.self_test import self_test

__all__ = ["examine"]


def examine() -> list[Check]:
    """Every check. The self-test comes first: threads and the cache exist after it."""
    tested = self_test()
    return [
        libraries.versions(),
        libraries.thread_counts(),
        libraries.openmp(_mapped_files()),
        permissions.sampling(),
        permissions.kernel_cache(cache_folders()),
        devices.gpus(),
        devices.sdpa_backends(),
        tested,
    ]


def _mapped_files() -> set[str]:
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
