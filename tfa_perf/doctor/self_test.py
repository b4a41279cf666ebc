"""Every kernel against its oracle, on small made-up input."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from tfa_kernels import (
    build_features,
    encoder_layer,
    gather_windows,
    overlap_add,
    reference,
    reference_attention,
    reference_encoder,
    shared_attention,
    shared_attention_gradient,
    window_attention,
    window_attention_gradient,
)
from tfa_kernels.ops import CONVENTIONS, OPS
from tfa_kernels.order import permuted_range
from tfa_kernels.self_attention import self_attention, self_attention_gradient
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
    tests += _gather, _conversion, _order, _attention, _encoder_layer, _overlap
    for test in tests:
        test()
    compiled = time.perf_counter()
    wrong = [name for test in tests for name in test()]
    took = time.perf_counter() - compiled
    found = (
        f"{len(OPS)} ops in {len(CONVENTIONS)} conventions, gather, conversion, order, attention, "
        f"encoder layer and overlapping windows: {took:.1f} s (the first run, which may compile, "
        f"{compiled - began:.1f} s)"
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


def _normal(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape, dtype=np.float32)


def _far(got: Any, wanted: Any) -> bool:
    """Whether two results are further apart than float32 rounds sums of some hundred products."""
    largest = np.abs(wanted).max(initial=1.0)
    return got.shape != wanted.shape or not bool((np.abs(got - wanted) <= 1e-5 * largest).all())


def _attention() -> list[str]:
    qkv, gradient = _normal(2, _WINDOW, 3 * 16), _normal(2, _WINDOW, 16)
    far = _far(window_attention(qkv, 2), reference_attention.window_attention(qkv, 2))
    arguments = gradient, qkv, 2
    wanted = reference_attention.window_attention_gradient(*arguments)
    far |= _far(window_attention_gradient(*arguments), wanted)
    windows = np.stack([qkv[0, :-1], qkv[0, 1:]])
    wanted = reference_attention.window_attention(windows, 2)
    far |= _far(shared_attention(qkv[0], _WINDOW - 1, 2), wanted)
    wanted = reference_attention.window_attention_gradient(gradient[:, 1:], windows, 2)
    wanted = np.pad(wanted[0], ((0, 1), (0, 0))) + np.pad(wanted[1], ((1, 0), (0, 0)))
    far |= _far(shared_attention_gradient(gradient[:, 1:].copy(), qkv[0], 2), wanted)
    return ["window_attention"] if far else []


def _encoder_layer() -> list[str]:
    d = encoder_layer.MULTIPLE
    x, mixed, gradient = _normal(3, 5, d)
    norm = encoder_layer.LayerNorm(1 + _normal(d), _normal(d))
    linear = encoder_layer.Linear(_normal(d, d) / 6, _normal(d))
    before, after = (x, norm, linear), (linear, norm, linear, linear)
    made = encoder_layer.after_attention(x, mixed, *after)
    got = encoder_layer.before_attention_gradient(gradient, *before, mixed)
    got_after = encoder_layer.after_attention_gradient(gradient, mixed, made, *after)
    wanted = reference_encoder.before_attention_gradient(gradient, *before, mixed)
    wanted_after = reference_encoder.after_attention_gradient(gradient, x, mixed, *after)
    pairs = [
        (encoder_layer.before_attention(*before), reference_encoder.before_attention(*before)),
        (made.out, reference_encoder.after_attention(x, mixed, *after)),
        (got.x, wanted[0]),
        (got.projection.weight, wanted[3]),
        (got_after.x, wanted_after[0]),
        (got_after.mixed, wanted_after[1]),
        (got_after.first.weight, wanted_after[6]),
    ]
    heads = 2
    windows, projection = x[None], encoder_layer.Linear(_normal(3 * d, d) / 6, _normal(3 * d))
    qkv = reference_encoder.before_attention(x, norm, projection)[None]
    pairs.append(
        (
            self_attention(windows, norm, projection, heads).out,
            reference_attention.window_attention(qkv, heads),
        )
    )
    of_qkv = reference_attention.window_attention_gradient(gradient[None], qkv, heads)[0]
    wanted = reference_encoder.before_attention_gradient(of_qkv, x, norm, projection, mixed)
    got = self_attention_gradient(
        gradient[None], windows, qkv.astype(np.float32), norm, projection, heads, mixed[None]
    )
    pairs += [(got.x[0], wanted[0]), (got.projection.weight, wanted[3])]
    return ["encoder layer"] if any(_far(*pair) for pair in pairs) else []


def _overlap() -> list[str]:
    windows = _normal(9, _WINDOW, 3)
    wanted = np.zeros((9 + _WINDOW - 1, 3))
    for w, window in enumerate(windows):
        wanted[w : w + _WINDOW] += window
    return ["overlap_add"] if _far(overlap_add(windows), wanted) else []
