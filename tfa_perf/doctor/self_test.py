"""Every kernel against its oracle, on small made-up input."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from tfa_kernels import build_features, gather_windows, reference
from tfa_kernels.ops import CONVENTIONS, OPS
from tfa_kernels.order import permuted_range
from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.synthetic import synthetic_bars
from tfa_perf.doctor.check import Check

__all__ = ["self_test"]

_BARS, _WINDOW = 600, 14
# Of float32 results and, where large values cancel, of the largest in the column.
_RELATIVE, _OF_LARGEST = 1e-6, 1e-6


def self_test() -> Check:
    """Run all kernels twice: the first time compiles them. Names those that are wrong."""
    began = time.perf_counter()
    tests: list[Callable[[], list[str]]] = [partial(_features, each) for each in CONVENTIONS]
    tests += _gather, _conversion, _order
    for test in tests:
        test()
    compiled = time.perf_counter()
    wrong = [name for test in tests for name in test()]
    took = time.perf_counter() - compiled
    found = (
        f"{len(OPS)} ops in {len(CONVENTIONS)} conventions, gather, conversion and order: "
        f"{took:.1f} s (the first run, which may compile, {compiled - began:.1f} s)"
    )
    if wrong:
        return Check(
            "self-test", found, f"not what the oracle gives: {', '.join(wrong)}",
            "reinstall tfa-kernels, numba and llvmlite; if it stays, report it with this output",
        )  # fmt: skip
    return Check("self-test", found)


def _features(convention: str) -> list[str]:
    features = [
        {"name": op, "op": op} | ({} if row.window is None else {"window": _WINDOW})
        for op, row in OPS.items()
    ]
    spec = {"schema_version": "2.0", "convention": convention, "features": features}
    bars = synthetic_bars(_BARS)
    got, wanted = build_features(bars, spec).values, reference.build_features(bars, spec)
    wrong = []
    for c, op in enumerate(OPS):
        column = wanted[:, c]
        largest = np.abs(column[np.isfinite(column)]).max(initial=0.0)
        close = np.isclose(got[:, c], column, _RELATIVE, _OF_LARGEST * largest, equal_nan=True)
        if not close.all():
            wrong.append(f"{op} ({convention})")
    return wrong


def _table() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((_BARS, 7), dtype=np.float32)


def _gather() -> list[str]:
    X, starts = _table(), np.random.default_rng(1).integers(0, _BARS - _WINDOW, 200)
    same = np.array_equal(
        gather_windows(X, starts, _WINDOW), reference.gather_windows(X, starts, _WINDOW)
    )
    return [] if same else ["gather_windows"]


def _conversion() -> list[str]:
    X = _table()
    y = np.zeros(len(X), np.float32)
    loader = WindowLoader(X, y, window=_WINDOW, batch_size=len(X), dtype=torch.float16)
    x, _ = next(iter(loader))
    starts = np.arange(len(X) - _WINDOW + 1)
    wanted = reference.gather_windows(X, starts, _WINDOW).astype(np.float16)
    return [] if np.array_equal(x.numpy(), wanted) else ["gather to float16"]


def _order() -> list[str]:
    count = 20_000
    keys = np.arange(1, 9, dtype=np.uint32)
    order = permuted_range(0, count, count, keys)
    part = permuted_range(100, 200, count, keys, num_threads=1)
    same = np.array_equal(np.sort(order), np.arange(count)) and np.array_equal(order[100:200], part)
    return [] if same else ["order"]
