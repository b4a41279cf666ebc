"""Peak memory of each side of a piece of work, in processes that have done nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

__all__ = ["available", "compare", "in_fresh_process"]


def available() -> bool:
    """Whether the system tells a process its peak and lets it start anew: Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return "VmHWM" in Path("/proc/self/status").read_text()


def in_fresh_process(case: str, side: str, size: str, folder: Path) -> dict[str, float]:
    """``peak_mb`` and ``private_mb`` of one run; its output is in ``folder``."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory_cases", case, side, size, str(folder)],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{case}, {side}: the process ended with {done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compare(case: str, before: Path, after: Path) -> None:
    """Raise AssertionError where the two sides did not make the same."""
    expected, made = (np.load(folder / "made.npy", mmap_mode="r") for folder in (before, after))
    if case.startswith("features"):
        # The report's ZWIN takes E[x^2] - E[x]^2, which cancels.
        same = bool((np.abs(made - expected) <= 1e-3 * np.abs(expected).max(axis=0)).all())
    else:
        same = np.array_equal(expected, made)
    if not same:
        raise AssertionError(f"{case}: the two sides made different tables")
