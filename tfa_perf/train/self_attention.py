"""Norm, projection and attention of an encoder layer on a CPU: one kernel each way."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

from tfa_kernels import self_attention as kernels
from tfa_perf.train.cpu_attention import as_array, kernel_threads
from tfa_perf.train.encoder_layer import before_parts, own_memory

__all__ = ["self_attention"]


def self_attention(layer: nn.TransformerEncoderLayer, x: Tensor) -> tuple[Tensor, Tensor]:
    """What attention makes of windows x [b, T, d], before its own projection; and x again.

    For a layer that `encoder_layer.in_kernels` takes, and attention without dropout. The layer adds
    what attention gives to x: taken from here, its gradient is added to that of the norm in one
    kernel.
    """
    own, norm = layer.self_attn, layer.norm1
    parameters = norm.weight, norm.bias, own.in_proj_weight, own.in_proj_bias
    if not torch.is_grad_enabled():
        return _made(x, own.num_heads, norm.eps, parameters)[0], x
    return _SelfAttention.apply(x, own.num_heads, norm.eps, *parameters)


class _SelfAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, heads: int, eps: float, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        mixed, qkv = _made(x, heads, eps, parameters)
        ctx.save_for_backward(x, qkv, *parameters)
        ctx.heads, ctx.eps = heads, eps
        return mixed, x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, passed: Tensor) -> tuple[Tensor | None, ...]:
        x, qkv, *parameters = ctx.saved_tensors
        of_x, *rest = _gradient(gradient, passed, x, qkv, ctx.heads, ctx.eps, parameters)
        return of_x, None, None, *rest


# Operators of torch, so that its profiler names them and its counter of FLOPs knows them.


@torch.library.custom_op("tfa_perf::self_attention", mutates_args=())
def _made(x: Tensor, heads: int, eps: float, parameters: list[Tensor]) -> list[Tensor]:
    """What attention gives, and queries, keys and values."""
    norm, projection = before_parts(parameters, eps)
    made = kernels.self_attention(
        as_array(x), norm, projection, heads, num_threads=kernel_threads()
    )
    return [*map(torch.from_numpy, made)]


@torch.library.custom_op("tfa_perf::self_attention_gradient", mutates_args=())
def _gradient(
    gradient: Tensor,
    passed: Tensor,
    x: Tensor,
    qkv: Tensor,
    heads: int,
    eps: float,
    parameters: list[Tensor],
) -> list[Tensor]:
    norm, projection = before_parts(parameters, eps)
    made = kernels.self_attention_gradient(
        as_array(gradient), as_array(x), as_array(qkv), norm, projection, heads, as_array(passed),
        num_threads=kernel_threads(),
    )  # fmt: skip
    found = made.norm.weight, made.norm.bias, *made.projection
    return [torch.from_numpy(made.x), *map(own_memory, found)]


@register_flop_formula(torch.ops.tfa_perf.self_attention)
def _flops(x: Any, *_: Any, **__: Any) -> int:
    """The projection, and two products, with the keys and with the values, of T x T x d."""
    _windows, T, d = x
    return int(2 * math.prod(x) * (3 * d + 2 * T))


@register_flop_formula(torch.ops.tfa_perf.self_attention_gradient)
def _flops_gradient(_: Any, __: Any, x: Any, *___: Any, **____: Any) -> int:
    """Twice as many; the scores that are made again are not counted."""
    return 2 * _flops(x)
