"""Shuffled passes over a memory-mapped table, in turn: rows a second and resident memory.

``python -m benchmarks.block_passes FILE JOINS ROUNDS SECONDS`` writes its number to the file
JOINS, gives each way of shuffling so many seconds a round and prints a line of JSON.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tfa_perf.data.loader import WindowLoader

WINDOW, BATCH = 48, 256
# name: shuffle of the loader, and whether the system reads around a row that is missing.
PASSES = {"full": (True, True), "full, no read-ahead": (True, False), "block": ("block", True)}


def main() -> None:
    file, joins = sys.argv[1:3]
    rounds, seconds = int(sys.argv[3]), float(sys.argv[4])
    tables = {name: np.load(file, mmap_mode="r") for name in PASSES}
    # What every process needs is not counted: modules, compiled kernels, threads.
    _warm_up(tables["full"].shape[1])
    Path(joins).write_text(str(os.getpid()))
    passes = {name: _endless(X, PASSES[name][0]) for name, X in tables.items()}
    for name, (_, read_ahead) in PASSES.items():
        next(passes[name])
        if not read_ahead:
            tables[name].base.madvise(mmap.MADV_RANDOM)  # type: ignore[union-attr]
    found: dict[str, Any] = {name: {"rows_per_s": [], "resident": 0} for name in PASSES}
    for number in range(rounds):
        for name in list(PASSES)[:: 1 if number % 2 else -1]:
            rows, largest = _run(passes[name], tables[name], seconds)
            # The first round fills the memory.
            if number:
                found[name]["rows_per_s"].append(rows)
                found[name]["resident"] = max(found[name]["resident"], largest)
    print(json.dumps(found), flush=True)


def _warm_up(features: int) -> None:
    X = np.zeros((4 * BATCH, features), np.float32)
    for shuffle, _ in PASSES.values():
        for _ in _endless(X, shuffle, epochs=1):
            pass


def _endless(X: Any, shuffle: Any, epochs: int | None = None) -> Iterator[torch.Tensor]:
    y = np.zeros(len(X), np.float32)
    loader = WindowLoader(X, y, window=WINDOW, batch_size=BATCH, shuffle=shuffle)
    for epoch in itertools.count() if epochs is None else range(epochs):
        loader.set_epoch(epoch)
        for x, _ in loader:
            yield x


def _run(batches: Iterator[torch.Tensor], X: Any, seconds: float) -> tuple[float, int]:
    """Rows a second of the batches that begin within ``seconds``, and the table's resident bytes.

    A look at what is resident takes a while: there is one about every 0.1 s.
    """
    windows, largest, looked = 0, 0, 0.0
    looking = 0.0
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        windows += len(next(batches))
        if now - looked > 0.1:
            start = time.perf_counter()
            largest, looked = max(largest, _resident(X)), now
            looking += time.perf_counter() - start
    return windows * WINDOW / (time.perf_counter() - began - looking), largest


def _resident(X: Any) -> int:
    """Bytes of the map ``X`` that this process has in memory."""
    first = X.ctypes.data - X.offset
    total, inside = 0, False
    with open("/proc/self/smaps") as maps:
        for line in maps:
            words = line.split()
            if not words[0].endswith(":"):
                start, end = (int(part, 16) for part in words[0].split("-"))
                inside = first <= start and end <= first + X.nbytes + 2 * mmap.PAGESIZE
            elif inside and words[0] == "Rss:":
                total += int(words[1]) * 1024
    return total


if __name__ == "__main__":
    main()
