"""Every kernel compiled ahead of its first use, into the cache that later processes read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from tfa_kernels._jit import jit_disabled, resolve_threads
from tfa_kernels.attention import (
    shared_attention,
    shared_attention_gradient,
    window_attention,
    window_attention_gradient,
)
from tfa_kernels.encoder_layer import (
    MULTIPLE,
    LayerNorm,
    Linear,
    after_attention,
    after_attention_gradient,
    before_attention,
    before_attention_gradient,
)
from tfa_kernels.features import build_features
from tfa_kernels.last_rows import last_attention, last_attention_gradient
from tfa_kernels.ops import OPS
from tfa_kernels.order import RunIndex, permuted_range
from tfa_kernels.overlap import overlap_add
from tfa_kernels.self_attention import self_attention, self_attention_gradient
from tfa_kernels.stream import FeatureStream
from tfa_kernels.windows import WindowGather

__all__ = ["warm_up"]

_ROWS, _COLUMNS, _WINDOW = 64, 3, 4
# As many images as permuted_range wants before it wakes a second thread.
_IMAGES = 8192
_SPEC = {"schema_version": "2.0", "features": [{"name": "close", "op": "IDENT"}]}


def warm_up() -> Iterator[tuple[str, float]]:
    """Compile kernel after kernel, or load it where the cache has it.

    Each op is compiled once; the passes around them twice, across threads and as the serial twin
    that a forked process runs. With one thread, or in a forked process, the twins alone are
    compiled; with NUMBA_DISABLE_JIT nothing is. Ops given to ``register_op`` are compiled for this
    process. Kernels of a GPU are not among them.

    Yields
    ------
    (name, seconds) of each kernel, once it is there.
    """
    if jit_disabled():
        return
    work: list[tuple[str, Callable[[], object]]] = [
        (f"op {name}", partial(getattr, op.kernel, "address")) for name, op in OPS.items()
    ]
    work.append(("stream", _stream))
    for threads in sorted({1, resolve_threads(None)}):
        where = "serial" if threads == 1 else "parallel"
        work += [
            (f"features, {where}", partial(_features, threads)),
            (f"gather, {where}", partial(_gather, threads, converts=False)),
            (f"gather and convert, {where}", partial(_gather, threads, converts=True)),
            (f"order, {where}", partial(_order, threads)),
            (f"attention, {where}", partial(_attention, threads)),
            (f"encoder layer, {where}", partial(_encoder_layer, threads)),
            (f"last rows, {where}", partial(_last_rows, threads)),
            (f"overlapping windows, {where}", partial(_overlap, threads)),
        ]
    for name, compile_it in work:
        began = time.perf_counter()
        compile_it()
        yield name, time.perf_counter() - began


def _features(threads: int) -> None:
    build_features({"close": np.ones(_ROWS)}, _SPEC, num_threads=threads)


def _stream() -> None:
    FeatureStream(_SPEC).update({"close": 1.0})


def _gather(threads: int, *, converts: bool) -> None:
    table = np.zeros((_ROWS, _COLUMNS), np.float32)
    dtype = np.float16 if converts else None
    kernel = WindowGather(table, _WINDOW, dtype=dtype, num_threads=threads)
    size = _ROWS // 2 * _WINDOW * _COLUMNS * np.dtype(dtype or np.float32).itemsize
    kernel.fill(np.arange(_ROWS // 2), np.empty(size, np.uint8))


def _order(threads: int) -> None:
    permuted_range(0, _IMAGES, _IMAGES, np.ones(8, np.uint32), num_threads=threads)
    RunIndex(np.array([0, 1]), np.array([0]), 1).last_rows(np.zeros(1, np.int64))


def _attention(threads: int) -> None:
    qkv = np.zeros((1, _WINDOW, 3 * _COLUMNS), np.float32)
    mixed = window_attention(qkv, 1, num_threads=threads)
    window_attention_gradient(mixed, qkv, 1, num_threads=threads)
    mixed = shared_attention(qkv[0], 1, 1, num_threads=threads)
    shared_attention_gradient(mixed, qkv[0], 1, num_threads=threads)


def _encoder_layer(threads: int) -> None:
    x, ones = np.zeros((1, MULTIPLE), np.float32), np.ones(MULTIPLE, np.float32)
    norm, linear = LayerNorm(ones, ones), Linear(np.zeros((MULTIPLE, MULTIPLE), np.float32), ones)
    before_attention(x, norm, linear, num_threads=threads)
    before_attention_gradient(x, x, norm, linear, x, num_threads=threads)
    made = after_attention(x, x, linear, norm, linear, linear, num_threads=threads)
    after_attention_gradient(x, x, made, linear, norm, linear, linear, num_threads=threads)
    window = x[None]
    weight, bias = (
        np.zeros((3 * MULTIPLE, MULTIPLE), np.float32),
        np.zeros(3 * MULTIPLE, np.float32),
    )
    linear = Linear(weight, bias)
    both = self_attention(window, norm, linear, 1, num_threads=threads)
    self_attention_gradient(window, window, both.qkv, norm, linear, 1, window, num_threads=threads)


def _last_rows(threads: int) -> None:
    x, ones = np.zeros((1, _WINDOW, MULTIPLE), np.float32), np.ones(MULTIPLE, np.float32)
    sought, norm = np.zeros((1, 1, MULTIPLE), np.float32), LayerNorm(ones, ones)
    last_attention(x, norm, sought, num_threads=threads)
    last_attention_gradient(sought, x, norm, sought, num_threads=threads)


def _overlap(threads: int) -> None:
    overlap_add(np.zeros((1, _WINDOW, _COLUMNS), np.float32), num_threads=threads)
