"""What the system lets this user do: read another process, keep compiled kernels."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tfa_perf.doctor.check import Check
from tfa_perf.profile.pyspy import RATE, PySpy, find_pyspy

__all__ = ["kernel_cache", "sampling"]


def sampling() -> Check:
    """Whether py-spy may read a process of this user, by trying it."""
    program = find_pyspy()
    if program is None:
        return Check(
            "sampling", "py-spy is missing", "profiles fall back to the in-process sampler",
            "pip install py-spy",
        )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="tfa-perf-doctor-") as folder:
        sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
        with subprocess.Popen(sleeping, stdin=subprocess.DEVNULL) as child:
            out, log = Path(folder, "stacks.json"), Path(folder, "py-spy.log")
            spy = PySpy(program, child.pid, RATE, out, log, children=False)
            try:
                problem = spy.wait_attached(child)
            finally:
                spy.interrupt()
                child.kill()
                spy.finish(5.0)
    if problem is None:
        return Check("sampling", "py-spy reads other processes (ptrace is permitted)")
    return Check(
        "sampling", problem, "profiles fall back to the in-process sampler",
        "set kernel.yama.ptrace_scope to 0, give the container --cap-add SYS_PTRACE, or use sudo",
    )  # fmt: skip


def kernel_cache(folders: set[Path]) -> Check:
    """The folders that compiled kernels are kept in; none where nothing can be kept."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return Check(
            "kernel cache", "NUMBA_DISABLE_JIT is set",
            "kernels run as plain Python, a hundred times slower and more",
            "unset NUMBA_DISABLE_JIT",
        )  # fmt: skip
    if not folders:
        return Check(
            "kernel cache", "none: no folder can be written",
            "every process compiles its kernels anew, for a minute or more",
            "set NUMBA_CACHE_DIR to a folder that can be written",
        )  # fmt: skip
    files = [file for folder in folders for file in folder.glob("*.nb[ci]")]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    places = ", ".join(sorted(map(str, folders)))
    found = f"{places}: {len(files)} files, {megabytes:.0f} MB"
    closed = [str(folder) for folder in folders if not os.access(folder, os.W_OK)]
    if closed:
        return Check(
            "kernel cache", found, f"cannot be written: {', '.join(closed)}",
            "set NUMBA_CACHE_DIR to a folder that can be written",
        )  # fmt: skip
    asked = os.environ.get("NUMBA_CACHE_DIR")
    if asked and not any(folder.is_relative_to(Path(asked).absolute()) for folder in folders):
        return Check(
            "kernel cache", found, f"NUMBA_CACHE_DIR={asked} is not used: it cannot be written",
            "set NUMBA_CACHE_DIR to a folder that can be written, or unset it",
        )  # fmt: skip
    return Check("kernel cache", found)
