"""The doctor on this machine, and on ones with something wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import torch

from tfa_kernels import reference, reference_attention, reference_encoder
from tfa_perf.doctor import devices, libraries, permissions
from tfa_perf.doctor.self_test import self_test

COMMAND = [sys.executable, "-m", "tfa_perf", "doctor"]


def test_a_sound_installation_passes_its_self_test():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([*COMMAND, "--json"], capture_output=True, text=True, env=environment)
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert list(checks) == [
        "versions", "threads", "OpenMP runtimes", "sampling", "kernel cache", "GPU",
        "SDPA backends", "self-test",
    ]  # fmt: skip
    assert done.returncode == any(check["problem"] for check in checks.values())
    assert checks["self-test"]["problem"] is None
    assert f"torch {torch.__version__}" in checks["versions"]["found"]
    assert checks["threads"]["found"].endswith(", torch 2")
    assert "files" in checks["kernel cache"]["found"]
    if sys.platform == "linux":
        assert "omp" in checks["OpenMP runtimes"]["found"]


def test_threads_that_numba_refuses():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "0"}
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "numba does not start" in done.stderr and "remedy: unset" in done.stderr
    assert "NUMBA_NUM_THREADS=0" in done.stderr and "Traceback" not in done.stderr


def test_threads_that_the_environment_takes_away(monkeypatch):
    monkeypatch.setattr(libraries, "usable_cores", lambda: torch.get_num_threads() + 1)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert libraries.thread_counts().problem is None
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    check = libraries.thread_counts()
    assert check.problem == "OMP_NUM_THREADS=2 leaves cores unused"
    assert check.remedy == "unset OMP_NUM_THREADS"
    for odd in ("abc", "0", "-1", "100000", ""):
        monkeypatch.setenv("NUMBA_NUM_THREADS", odd)
        check = libraries.thread_counts()
        assert check.problem.startswith(f"NUMBA_NUM_THREADS={odd}: not a number of threads from 1")
        assert check.remedy == "unset NUMBA_NUM_THREADS"


def test_a_kernel_that_is_wrong_is_named(monkeypatch):
    true = reference.build_features

    def other(bars, spec):
        values = true(bars, spec)
        values[:, list(reference_names(spec)).index("RSI")] *= 1 + 1e-5
        return values

    monkeypatch.setattr(reference, "build_features", other)
    monkeypatch.setattr(reference, "gather_windows", lambda X, s, w: np.zeros((len(s), w, 7)))
    monkeypatch.setattr(reference_attention, "window_attention", lambda qkv, _: qkv[..., :16] + 1)
    monkeypatch.setattr(reference_encoder, "after_attention", lambda x, *_: x)
    wrong = self_test().problem
    assert wrong == (
        "not what the oracle gives: RSI (legacy), RSI (talib), gather_windows, gather to float16, "
        "window_attention, encoder layer"
    )


def reference_names(spec):
    return (feature["name"] for feature in spec["features"])


def test_openmp_runtimes_of_two_kinds():
    torchs, numbas = "/v/torch/lib/libgomp-98b21ff3.so.1", "/usr/lib/libgomp.so.1.0.0"
    intels = "/opt/conda/lib/libiomp5.so"
    others = ["/lib/libc.so.6", "/v/libgomphosis.txt", "[heap]"]
    assert libraries.openmp(others).found == "none"
    same = libraries.openmp([numbas, torchs, numbas, *others])
    assert (same.found, same.problem) == ("libgomp.so.1.0.0, libgomp-98b21ff3.so.1", None)
    mixed = libraries.openmp([torchs, intels, *others])
    assert mixed.found == "libiomp5.so, libgomp-98b21ff3.so.1"
    assert mixed.problem.startswith("2 different ones") and "conda" in mixed.remedy


def test_py_spy_is_missing(monkeypatch):
    monkeypatch.setattr(permissions, "find_pyspy", lambda: None)
    assert permissions.sampling().remedy == "pip install py-spy"


def test_kernels_that_cannot_be_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert "NUMBA_CACHE_DIR" in permissions.kernel_cache(set()).remedy
    gone = permissions.kernel_cache({tmp_path / "gone"})
    assert gone.problem == f"cannot be written: {tmp_path / 'gone'}"
    (tmp_path / "a.nbi").write_bytes(bytes(2_000_000))
    assert permissions.kernel_cache({tmp_path}).found == f"{tmp_path}: 1 files, 2 MB"


def test_a_cache_folder_that_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nothing")
    check = permissions.kernel_cache({tmp_path})
    assert check.problem == "NUMBA_CACHE_DIR=/proc/nothing is not used: it cannot be written"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path.parent))
    assert permissions.kernel_cache({tmp_path}).problem is None


def test_kernels_that_are_not_compiled(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert permissions.kernel_cache(set()).remedy == "unset NUMBA_DISABLE_JIT"


def test_a_gpu_that_torch_cannot_use(monkeypatch):
    if torch.cuda.is_available():
        assert torch.cuda.get_device_name() in devices.gpus().found
        return
    assert devices.gpus().problem is None
    monkeypatch.setattr(devices.glob, "glob", lambda pattern: ["/dev/nvidia0"])
    assert "CUDA build of torch" in devices.gpus().remedy
