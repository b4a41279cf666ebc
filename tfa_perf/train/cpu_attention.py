"""Attention inside windows on a CPU: Numba's kernels as operators of torch."""

from __future__ import annotations

import math
from typing import Any

import numba
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

from tfa_kernels.attention import (
    shared_attention,
    shared_attention_gradient,
    window_attention,
    window_attention_gradient,
)

__all__ = ["CpuAttention", "SharedAttention", "as_array", "kernel_threads"]

# Typed stubs of numba lack its settings.
_numba: Any = numba


class CpuAttention(torch.autograd.Function):
    """`window_attention` of float32 qkv [b, T, 3 d] and a number of heads: [b, T, d]."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int) -> Tensor:
        ctx.save_for_backward(qkv)
        ctx.heads = heads
        return _attention(qkv, heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _attention_gradient(gradient, *ctx.saved_tensors, ctx.heads), None


class SharedAttention(torch.autograd.Function):
    """The same of all windows of T of the rows [R, 3 d], of which no copies are made."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, T: int, heads: int) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.heads = heads
        return _shared(rows, T, heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _shared_gradient(gradient, *ctx.saved_tensors, ctx.heads), None, None


def as_array(t: Tensor) -> Any:
    """The values of a tensor on the CPU, contiguous, as an array."""
    return t.detach().contiguous().numpy()


def kernel_threads() -> int:
    """As many threads for a kernel of Numba's as torch has, if Numba may start them."""
    return min(torch.get_num_threads(), int(_numba.config.NUMBA_NUM_THREADS))


# Operators, so that torch's profiler names them and its counter of FLOPs knows them.


@torch.library.custom_op("tfa_perf::window_attention", mutates_args=())
def _attention(qkv: Tensor, heads: int) -> Tensor:
    made = window_attention(as_array(qkv), heads, num_threads=kernel_threads())
    return torch.from_numpy(made)


@torch.library.custom_op("tfa_perf::window_attention_gradient", mutates_args=())
def _attention_gradient(gradient: Tensor, qkv: Tensor, heads: int) -> Tensor:
    arrays = as_array(gradient), as_array(qkv)
    made = window_attention_gradient(*arrays, heads, num_threads=kernel_threads())
    return torch.from_numpy(made)


@torch.library.custom_op("tfa_perf::shared_attention", mutates_args=())
def _shared(rows: Tensor, T: int, heads: int) -> Tensor:
    made = shared_attention(as_array(rows), T, heads, num_threads=kernel_threads())
    return torch.from_numpy(made)


@torch.library.custom_op("tfa_perf::shared_attention_gradient", mutates_args=())
def _shared_gradient(gradient: Tensor, rows: Tensor, heads: int) -> Tensor:
    arrays = as_array(gradient), as_array(rows)
    made = shared_attention_gradient(*arrays, heads, num_threads=kernel_threads())
    return torch.from_numpy(made)


@register_flop_formula(torch.ops.tfa_perf.window_attention)
def _flops(qkv: Any, *_: Any, **__: Any) -> int:
    """Two products, with the keys and with the values, of T x T x d."""
    return int(4 * math.prod(qkv) * qkv[1] // 3)


@register_flop_formula(torch.ops.tfa_perf.window_attention_gradient)
def _flops_gradient(_: Any, qkv: Any, *__: Any, **___: Any) -> int:
    """Four products; the scores that are made again are not counted."""
    return 2 * _flops(qkv)


@register_flop_formula(torch.ops.tfa_perf.shared_attention)
def _flops_shared(rows: Any, T: int, *_: Any, **__: Any) -> int:
    return _flops([rows[0] - T + 1, T, rows[1]])


@register_flop_formula(torch.ops.tfa_perf.shared_attention_gradient)
def _flops_shared_gradient(gradient: Any, rows: Any, *_: Any, **__: Any) -> int:
    return _flops_gradient(None, [*gradient[:2], rows[1]])
