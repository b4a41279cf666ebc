"""Bounds measured beside a row: a copy of memory, and a product of large matrices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["COPIED", "flops_of", "peak_per_s"]

# More than a cache holds; less than any device has.
COPIED = 64 << 20
_SIDE = 2048

Call = Callable[[], object]


def peak_per_s(kind: str, copied: int = COPIED, times: int = 5) -> list[float]:
    """Bytes per second of a copy, or operations per second of a float32 GEMM, ``times`` times.

    ``kind``: "memcpy" (by torch, on as many threads as it has), "copy to the GPU" (from pinned
    memory) or "GEMM" (each time the faster of MKL and oneDNN). ``copied`` is how many bytes a copy
    has, for work that goes through pieces which fit a cache.
    """
    calls, work = _gemm() if kind == "GEMM" else _COPIES[kind](copied)
    for call in calls:
        call()
    return [work / min(map(_seconds, calls)) for _ in range(times)]


def flops_of(call: Call) -> int:
    """Floating-point operations of the matrix products of one call."""
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        call()
    return int(counter.get_total_flops())


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _memcpy(size: int) -> tuple[list[Call], int]:
    source = torch.ones(size, dtype=torch.uint8)
    target = torch.zeros(size, dtype=torch.uint8)
    return [lambda: target.copy_(source)], size


def _to_gpu(size: int) -> tuple[list[Call], int]:
    source = torch.ones(size, dtype=torch.uint8).pin_memory()
    target = torch.zeros(size, dtype=torch.uint8, device="cuda")

    def copy() -> None:
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize()

    return [copy], size


def _gemm() -> tuple[list[Call], int]:
    a, b = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    calls: list[Call] = [lambda: torch.mm(a, b)]
    if _ONEDNN_LINEAR is not None:
        calls.append(lambda: _ONEDNN_LINEAR(a, b, None, "none", [], ""))
    return calls, 2 * _SIDE**3


_COPIES = {"memcpy": _memcpy, "copy to the GPU": _to_gpu}


def _linear(x: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return 2 * math.prod(x) * int(out_shape[-1])


def _attention(query: Any, key: Any, *_: Any, **__: Any) -> int:
    """Two products, with the keys and with the values, of T x T x head_dim for each head."""
    return 4 * math.prod(query) * int(key[2])


def _attention_backward(_: Any, query: Any, key: Any, *__: Any, **___: Any) -> int:
    """Four products; the scores that are made again are not counted."""
    return 2 * _attention(query, key)


_ONEDNN_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
# What FlopCounterMode has no formulas for: it would count none.
_FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
if _ONEDNN_LINEAR is not None:
    _FORMULAS[_ONEDNN_LINEAR] = _linear
