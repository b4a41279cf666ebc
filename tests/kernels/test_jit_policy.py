"""Threads, forks, contention and the cache, each in a fresh process."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tfa_kernels

pytestmark = pytest.mark.compiled

SETUP = """
import sys
import threading
import numpy as np
from tfa_kernels import build_features, gather_windows, reference
from tfa_kernels.ops import OPS

def make(rows, seed=0):
    rng = np.random.default_rng(seed)
    close = 100 + np.cumsum(rng.integers(-9, 10, rows)) / 100
    volume = rng.integers(0, 999, rows).astype(float)
    return {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": volume}

def spec(convention="talib", count=6):
    features = []
    for op, row in OPS.items():
        for i in range(count):
            entry = {"name": f"{op}{i}", "op": op, "source": ("close", "volume", "logret")[i % 3]}
            features.append(entry if row.window is None else {**entry, "window": 3 + 7 * i})
    return {"schema_version": "2.0", "convention": convention, "features": features}

X = np.arange(4000.0).reshape(1000, 4)
starts = np.arange(0, 990, 7)
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
try:
    from numba.np.ufunc import tbbpool
except ImportError:
    tbbpool = None
layers = pytest.mark.parametrize(
    "layer",
    [
        "omp",
        "workqueue",
        pytest.param("tbb", marks=pytest.mark.skipif(tbbpool is None, reason="needs tbb")),
    ],
)


def test_bits_do_not_depend_on_the_thread_count(run_script):
    out = run_script(
        SETUP
        + """
symbols = [np.repeat(["A"], 5000), np.repeat(["A", "B", "C"], [4000, 10, 990]),
           np.repeat(np.arange(50), 100)]
for convention in ("legacy", "talib"):
    for symbol in symbols:
        bars = {**make(5000), "symbol": symbol}
        for count in (1, 6):
            runs = [build_features(bars, spec(convention, count), num_threads=n).values
                    for n in (1, 2, 3, 4)]
            assert all(r.tobytes() == runs[0].tobytes() for r in runs)
runs = [gather_windows(X, starts, 9, num_threads=n) for n in (1, 2, 3, 4)]
assert all(np.array_equal(r, reference.gather_windows(X, starts, 9)) for r in runs)
import numba
assert numba.get_num_threads() == 4
numba.set_num_threads(3)
gather_windows(X, starts, 9, num_threads=2)
assert numba.get_num_threads() == 3
try:
    gather_windows(X, starts, 9, num_threads=5)
except ValueError as error:
    print(error)
""",
        {"NUMBA_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"},
    )
    assert "num_threads is 5; allowed: 1..4" in out


@needs_fork
@layers
def test_forked_child(run_script, layer):
    run_script(
        SETUP
        + """
import os, signal, multiprocessing, warnings
warnings.simplefilter("ignore")
bars = make(3000)
want = build_features(bars, spec(), num_threads=2).values

def check():
    for n in (None, 1, 2):
        got = build_features(bars, spec(), num_threads=n).values
        assert got.tobytes() == want.tobytes()
        assert np.array_equal(gather_windows(X, starts, 9, num_threads=n),
                              reference.gather_windows(X, starts, 9))

pid = os.fork()
if pid == 0:
    signal.alarm(60)
    check()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0

# A fork while another thread holds the lock: the child must not wait for it.
import tfa_kernels._jit as jit
with jit._region:
    child = multiprocessing.get_context("fork").Process(target=check)
    child.start()
child.join(60)
assert child.exitcode == 0, child.exitcode
check()
""",
        {"NUMBA_NUM_THREADS": "2", "NUMBA_THREADING_LAYER": layer},
    )


@layers
def test_process_pools(run_script, layer):
    run_script(
        SETUP
        + f"""
import multiprocessing, numba, warnings
from concurrent.futures import ProcessPoolExecutor
warnings.simplefilter("ignore")
bars = make(3000)
want = build_features(bars, spec(), num_threads=2).values
wanted = reference.gather_windows(X, starts, 9)
before = numba.get_num_threads()
for method in multiprocessing.get_all_start_methods():
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        for n in (None, 1, 2):
            windows = [pool.submit(gather_windows, X, starts, 9, num_threads=n) for _ in range(4)]
            features = pool.submit(build_features, bars, spec(), num_threads=n)
            assert all(np.array_equal(future.result(60), wanted) for future in windows)
            assert features.result(60).values.tobytes() == want.tobytes()
assert numba.get_num_threads() == before == 2
assert numba.threading_layer() == "{layer}"
""",
        {"NUMBA_NUM_THREADS": "2", "NUMBA_THREADING_LAYER": layer},
    )


@layers
def test_threads_at_once(run_script, layer):
    # The workqueue layer aborts the process when two threads enter it together.
    run_script(
        SETUP
        + """
bars = make(20_000)
want = build_features(bars, spec(), num_threads=2).values.tobytes()
build_features(bars, spec(), num_threads=1)
wanted = reference.gather_windows(X, starts, 9)
failed = []

def work():
    try:
        for _ in range(20):
            assert build_features(bars, spec(), num_threads=2).values.tobytes() == want
            assert np.array_equal(gather_windows(X, starts, 9, num_threads=2), wanted)
    except BaseException as error:
        failed.append(error)

threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not failed, failed
""",
        {"NUMBA_NUM_THREADS": "2", "NUMBA_THREADING_LAYER": layer},
    )


@layers
def test_inside_a_prange_of_somebody_else(run_script, layer):
    run_script(
        SETUP
        + """
import numba
wanted = reference.gather_windows(X, starts, 9)
failed = []

def work():
    if not np.array_equal(gather_windows(X, starts, 9, num_threads=2), wanted):
        failed.append(threading.current_thread())

@numba.njit(parallel=True)
def outer():
    for i in numba.prange(8):
        with numba.objmode():
            work()

outer()
# Beside it, too: the main thread is in the region and another one in ours.
beside = threading.Thread(target=lambda: [work() for _ in range(200)])
beside.start()
while beside.is_alive():
    outer()
assert not failed, failed
assert numba.get_num_threads() == 2
""",
        {"NUMBA_NUM_THREADS": "2", "NUMBA_THREADING_LAYER": layer},
    )


def test_runs_uncached_with_one_warning(run_script, tmp_path):
    package = tmp_path / "tfa_kernels"
    shutil.copytree(
        Path(tfa_kernels.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    # Plain files where numba would make directories: unwritable even for root.
    blocked = tmp_path / "blocked"
    for path in (package / "__pycache__", blocked):
        path.write_text("")
    out = run_script(
        """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import tfa_kernels
ours = [w for w in caught if "tfa_kernels" in str(w.message)]
assert len(ours) == 1, [str(w.message) for w in caught]
import numpy as np
assert tfa_kernels.gather_windows(np.eye(5), [1, 2], 2, num_threads=1).sum() == 4
print(tfa_kernels.__file__, ours[0].message)
""",
        {
            "PYTHONPATH": str(tmp_path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NUMBA_CACHE_DIR": str(blocked / "x"),
            "HOME": str(blocked),
            "XDG_CACHE_HOME": str(blocked / "y"),
        },
    )
    assert str(package) in out
    assert "NUMBA_CACHE_DIR" in out


def test_two_processes_that_compile_at_once(tmp_path):
    code = """
import numpy as np
from tfa_kernels import gather_windows
print(gather_windows(np.eye(5), [1, 2], 2, num_threads=1).sum())
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    for _ in range(2):
        # Cold, then from what the two have kept.
        both = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)
        ]
        assert [process.communicate(timeout=300)[0] for process in both] == [b"4.0\n"] * 2
    assert list(tmp_path.rglob("*.nbi"))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("torch_threads", [1, 2])
def test_torch_keeps_its_thread_count(run_script, torch_threads):
    run_script(
        "import torch\n"
        + SETUP
        + f"""
torch.set_num_threads({torch_threads})
for n in (2, 1, 3, None):
    gather_windows(X, starts, 9, num_threads=n)
    build_features(make(3000), spec(), num_threads=n)
    assert torch.get_num_threads() == {torch_threads}, n
import numba
before = numba.get_num_threads()
torch.set_num_threads(1)
gather_windows(X, starts, 9)
assert numba.get_num_threads() == before == 3
""",
        {"NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "3"},
    )


def test_without_jit(run_script):
    run_script(
        SETUP
        + """
bars = make(40)
bars["close"][20] = np.nan
for convention in ("legacy", "talib"):
    got = build_features(bars, spec(convention)).values
    want = reference.build_features(bars, spec(convention))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
assert np.array_equal(gather_windows(X, [3, 991], 9, num_threads=1),
                      reference.gather_windows(X, [3, 991], 9))
""",
        {"NUMBA_DISABLE_JIT": "1"},
    )
