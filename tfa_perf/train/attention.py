"""Attention inside windows, by kernels for short ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tfa_perf.train.cpu_attention import CpuAttention, SharedAttention
from tfa_perf.train.overlap import windows_of

__all__ = [
    "attends_on_cpu",
    "attention",
    "have_kernels",
    "in_short_windows",
    "last_attention",
    "shared_attention",
]

_log = logging.getLogger(__name__)

# Rows of a window, and values of a head in one, that the registers hold; up to there the kernels
# were never slower than torch's fastest on an H200.
LONGEST, LARGEST = 128, 4096


def attention(qkv: Tensor, heads: int, *, dropout: float = 0.0) -> Tensor:
    """Each row of a window attends to all of them: [b, T, 3 d] -> [b, T, d].

    ``qkv`` holds queries, keys and values of all heads, in turn. Windows up to 128 rows without
    dropout take one kernel each way: in half precision on a CUDA device, of heads up to
    4,096 / rows columns, and in float32 on a CPU, uncompiled, on as many threads as torch has.
    Everything else is ``scaled_dot_product_attention``. Results differ by rounding.
    """
    if attends_on_cpu(qkv, qkv.shape[1], dropout):
        return CpuAttention.apply(qkv, heads)
    if _short(qkv, qkv.shape[-1] // 3 // heads, dropout):
        compiling = torch.compiler.is_compiling()
        return _attention(qkv, heads) if compiling else _Attention.apply(qkv, heads)
    return _by_torch(qkv, heads, dropout)


def shared_attention(rows: Tensor, T: int, heads: int, *, dropout: float = 0.0) -> Tensor:
    """`attention` of all windows of T of the rows [R, 3 d]: [R - T + 1, T, d].

    By the same rules; on a CPU the windows are not copied.
    """
    if attends_on_cpu(rows, T, dropout):
        return SharedAttention.apply(rows, T, heads)
    return attention(windows_of(rows, T), heads, dropout=dropout)


def last_attention(query: Tensor, kv: Tensor, heads: int, *, dropout: float = 0.0) -> Tensor:
    """The last row alone attends: query [b, d], keys and values [b, T, 2 d] -> [b, d].

    By the same rules as `attention` on a CUDA device; by torch on a CPU.
    """
    if _short(kv, query.shape[-1] // heads, dropout):
        if torch.compiler.is_compiling():
            return _last_attention(query, kv, heads)
        return _LastAttention.apply(query, kv, heads)
    return _last_by_torch(query, kv, heads, dropout)


def in_short_windows(rows: int, width: int) -> bool:
    """Whether the kernels for a CUDA device take windows of ``rows`` and heads of ``width``."""
    return rows <= LONGEST and rows * width <= LARGEST


def have_kernels(device: torch.device) -> bool:
    """Whether Triton's kernels run on a CUDA ``device``."""
    # What torch.compile makes of a model on such a device is Triton's as well.
    return torch.compiler.is_compiling() or _kernels(device) is not None


def _short(rows: Tensor, width: int, dropout: float) -> bool:
    return (
        rows.is_cuda
        and rows.dtype in (torch.bfloat16, torch.float16)
        and in_short_windows(rows.shape[1], width)
        and not dropout
    )


def attends_on_cpu(qkv: Tensor, T: int, dropout: float) -> bool:
    """Whether attention in windows of T rows is Numba's, of such queries, keys and values."""
    return (
        qkv.device.type == "cpu"
        and qkv.dtype == torch.float32
        and T <= LONGEST
        and not dropout
        and not torch.compiler.is_compiling()
    )


def _by_torch(qkv: Tensor, heads: int, dropout: float = 0.0) -> Tensor:
    q, k, v = (split_heads(part, heads) for part in qkv.chunk(3, dim=-1))
    return join_heads(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout))


def _last_by_torch(query: Tensor, kv: Tensor, heads: int, dropout: float = 0.0) -> Tensor:
    k, v = (split_heads(part, heads) for part in kv.chunk(2, dim=-1))
    q = split_heads(query.unsqueeze(1), heads)
    return join_heads(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout))[:, 0]


def split_heads(t: Tensor, heads: int) -> Tensor:
    """[b, T, d] -> [b, heads, T, d / heads]."""
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(t: Tensor) -> Tensor:
    """[b, heads, T, d / heads] -> [b, T, d]."""
    return t.transpose(1, 2).flatten(2)


def _mixed(qkv: Tensor, heads: int) -> Tensor:
    kernels = _kernels(qkv.device)
    return kernels.forward(qkv.contiguous(), heads) if kernels else _by_torch(qkv, heads)


def _mixed_gradient(gradient: Tensor, qkv: Tensor, heads: int) -> Tensor:
    kernels = _kernels(qkv.device)
    if kernels:
        return kernels.backward(gradient.contiguous(), qkv.contiguous(), heads)
    return torch.func.vjp(lambda t: _by_torch(t, heads), qkv)[1](gradient)[0]


def _last_mixed(query: Tensor, kv: Tensor, heads: int) -> Tensor:
    kernels = _kernels(kv.device)
    if kernels:
        return kernels.last_forward(query.contiguous(), kv.contiguous(), heads)
    return _last_by_torch(query, kv, heads).contiguous()


def _last_mixed_gradient(
    gradient: Tensor, query: Tensor, kv: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    kernels = _kernels(kv.device)
    if kernels:
        tensors = (t.contiguous() for t in (gradient, query, kv))
        return kernels.last_backward(*tensors, heads)
    return torch.func.vjp(lambda q, t: _last_by_torch(q, t, heads), query, kv)[1](gradient)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.heads = inputs
    ctx.save_for_backward(*tensors)


class _Attention(torch.autograd.Function):
    """Uncompiled: an operator of torch.library takes the host several times as long to call."""

    forward = staticmethod(_mixed)
    setup_context = staticmethod(_keep)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (qkv,) = ctx.saved_tensors
        return _mixed_gradient(gradient, qkv, ctx.heads), None


class _LastAttention(torch.autograd.Function):
    forward = staticmethod(_last_mixed)
    setup_context = staticmethod(_keep)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        query, kv = ctx.saved_tensors
        return *_last_mixed_gradient(gradient, query, kv, ctx.heads), None


def _operator(name: str, function: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """What torch.compile takes as a whole; ``fake`` gives the shapes."""
    made = torch.library.custom_op(f"tfa_perf::{name}", function, mutates_args=())
    made.register_fake(fake)
    return made


def _empty(t: Tensor) -> Tensor:
    return torch.empty_like(t, memory_format=torch.contiguous_format)


_attention = _operator(
    "attention", _mixed, lambda qkv, heads: qkv.new_empty((*qkv.shape[:2], qkv.shape[2] // 3))
)
_attention_gradient = _operator(
    "attention_gradient", _mixed_gradient, lambda gradient, qkv, heads: _empty(qkv)
)
_last_attention = _operator("last_attention", _last_mixed, lambda query, kv, heads: _empty(query))
_last_attention_gradient = _operator(
    "last_attention_gradient",
    _last_mixed_gradient,
    lambda gradient, query, kv, heads: (_empty(query), _empty(kv)),
)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return _attention_gradient(gradient, *ctx.saved_tensors, ctx.heads), None


def _last_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    return *_last_attention_gradient(gradient, *ctx.saved_tensors, ctx.heads), None


_attention.register_autograd(_backward, setup_context=_keep)
_last_attention.register_autograd(_last_backward, setup_context=_keep)


@cache
def _kernels(device: torch.device) -> ModuleType | None:
    """The Triton kernels, or None, and a line in the log, where they do not run."""
    try:
        from tfa_perf.train import _attention_triton as kernels

        # Compiles, so that a machine without a working compiler is found out here.
        kernels.forward(torch.zeros((1, 1, 48), dtype=torch.bfloat16, device=device), 1)
    except Exception as error:  # Triton raises whatever its compiler and loader raise
        _log.warning("attention by torch, not by kernels for short windows: %r", error)
        return None
    return kernels
