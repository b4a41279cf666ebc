"""Versions, threads and the libraries behind them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable

import numba
import torch

from tfa_perf.doctor.check import Check
from tfa_perf.profile.machine import usable_cores

__all__ = ["openmp", "thread_counts", "versions"]

_PACKAGES = (
    *("tfa-perf", "tfa-kernels", "numpy", "numba", "llvmlite", "torch", "triton"),
    *("torchmetrics", "polars", "py-spy"),
)
_OPENMP = re.compile(r"/[^/]*lib(gomp|iomp5|omp)[^/]*\.(?:so[.0-9]*|dylib)$")
_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def versions() -> Check:
    """Python and the packages that the timings depend on."""
    installed = {each.name.lower(): each.version for each in importlib.metadata.distributions()}
    found = [f"Python {platform.python_version()}"]
    found += [f"{name} {installed[name]}" for name in _PACKAGES if name in installed]
    return Check("versions", ", ".join(found))


def thread_counts() -> Check:
    """Threads that kernels and torch use, after a parallel kernel has run."""
    cores, torch_threads = usable_cores(), torch.get_num_threads()
    numba_threads = numba.get_num_threads()
    try:
        layer = str(numba.threading_layer())
    except ValueError:
        # No parallel kernel has run: on one core none does.
        layer = "none started"
    found = (
        f"{cores} usable cores; kernels {numba_threads} threads ({layer}), torch {torch_threads}"
    )
    odd = {name: os.environ[name] for name in _LIMITS if name in os.environ}
    odd = {name: text for name, text in odd.items() if not _is_count(text, cores)}
    if odd:
        given = ", ".join(f"{name}={text}" for name, text in odd.items())
        return Check(
            "threads", found, f"{given}: not a number of threads from 1 to {cores}, the cores; "
            "it is ignored, or threads wait for one another", f"unset {', '.join(odd)}",
        )  # fmt: skip
    fewer = min(numba_threads, torch_threads) < cores
    limits = [name for name in _LIMITS if name in os.environ]
    if fewer and limits:
        given = ", ".join(f"{name}={os.environ[name]}" for name in limits)
        return Check("threads", found, f"{given} leaves cores unused", f"unset {', '.join(limits)}")
    return Check("threads", found)


def _is_count(text: str, cores: int) -> bool:
    # OpenMP takes a list, a number for each level of nesting.
    first = text.split(",")[0].strip()
    return first.isdecimal() and 1 <= int(first) <= cores


def openmp(mapped: Iterable[str]) -> Check:
    """OpenMP runtimes among ``mapped``, the files that this process has mapped."""
    loaded = {path: match[1] for path in mapped if (match := _OPENMP.search(path))}
    kinds = set(loaded.values())
    found = ", ".join(map(os.path.basename, sorted(loaded))) or "none"
    if len(kinds) > 1:
        return Check(
            "OpenMP runtimes",
            found,
            f"{len(kinds)} different ones in one process: their waiting threads take the cores "
            "from each other, and some pairs abort",
            "install torch and numba from one source, all by pip or all by conda, or set "
            "NUMBA_THREADING_LAYER=workqueue",
        )
    return Check("OpenMP runtimes", found)
