"""Shuffles of a memory-mapped table twice as large as the memory that the process may use.

``-m blocks`` runs it, for about two minutes: a full shuffle, as the system reads files and with
its read-ahead switched off, and a shuffle in blocks, in turn in one process whose memory a control
group limits, page cache included. It takes root, or a control group delegated to the user.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.memory_limit import memory_limit
from tfa_perf.claims.measure import paired_ratio

LIMIT = 256 << 20
FEATURES = 55
ROWS = 2 * LIMIT // (4 * FEATURES)
ROUNDS, SECONDS = 8, 4.0


@pytest.fixture
def file(tmp_path):
    if shutil.disk_usage(tmp_path).free < 8 * LIMIT:
        pytest.skip(f"{tmp_path}: less than {8 * LIMIT >> 30} GB free")
    path = tmp_path / "X.npy"
    X = np.lib.format.open_memmap(path, "w+", np.float32, (ROWS, FEATURES))
    rng = np.random.default_rng(0)
    for first in range(0, ROWS, 100_000):
        part = X[first : first + 100_000]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
    X.flush()
    del X, part
    # Or the passes would find it in the page cache of this process, outside of the limit.
    with path.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    yield path
    path.unlink()


@pytest.mark.blocks
def test_block_order(capsys, request, file):
    with memory_limit(LIMIT) as limit:
        if limit is None:
            pytest.skip("no control group with a memory limit can be made here: root is needed")
        args = [file, limit.joins, 2 if request.config.option.benchmark_disable else ROUNDS]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.block_passes", *map(str, args), str(SECONDS)],
            cwd=Path(__file__).resolve().parents[1],
            capture_output=True,
            text=True,
            timeout=240,
        )
        reached = limit.times_reached
    assert done.returncode == 0, done.stderr
    assert reached, f"the limit was never reached: is {file.parent} in memory? Use --basetemp"
    found = json.loads(done.stdout)
    block = found["block"]
    with capsys.disabled():
        print(f"\n{ROWS * FEATURES * 4 >> 20} MB table, {LIMIT >> 20} MB of memory")
        for name, side in found.items():
            # Rates: the pairs' ratios the other way round are those of the times.
            ratio = paired_ratio(block["rows_per_s"], side["rows_per_s"])
            print(
                f"{name:>20} {np.median(side['rows_per_s']) / 1e6:8.3f} million rows/s, "
                f"{side['resident'] >> 20:4d} MB of the table resident"
                + ("" if side is block else f", block/this {ratio}")
            )
