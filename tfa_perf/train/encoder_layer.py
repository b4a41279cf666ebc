"""An encoder layer on a CPU, around its attention, as one kernel each way before it and after.

In the last layer the last row of a window alone attends, by one kernel each way.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from tfa_kernels import encoder_layer as kernels
from tfa_kernels import last_rows
from tfa_perf.train.cpu_attention import as_array, kernel_threads

__all__ = ["after_attention", "before_attention", "in_kernels", "last_attention", "with_last_row"]


def in_kernels(layer: nn.TransformerEncoderLayer, x: Tensor) -> bool:
    """Whether the kernels take x [..., d]: float32 on a CPU, uncompiled, without dropout.

    Columns of d and of the feed-forward are multiples of 32, and the activation is ``F.gelu``.
    """
    weights = (layer.linear1.weight, layer.self_attn.in_proj_weight, layer.norm1.weight)
    dropouts: tuple[Any, ...] = (layer.dropout, layer.dropout1, layer.dropout2)
    return (
        x.device.type == "cpu"
        and all(t is not None and t.dtype == torch.float32 for t in (x, *weights))
        and layer.activation is F.gelu
        and all(n % kernels.MULTIPLE == 0 for n in layer.linear1.weight.shape)
        and not (layer.training and any(dropout.p for dropout in dropouts))
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def before_attention(layer: nn.TransformerEncoderLayer, x: Tensor) -> tuple[Tensor, Tensor]:
    """Queries, keys and values of x [..., d]: [..., 3 d]; and x again.

    The layer adds what attention gives to x: taken from here, its gradient is added to that of the
    norm in one kernel.
    """
    own, norm = layer.self_attn, layer.norm1
    parameters = norm.weight, norm.bias, own.in_proj_weight, own.in_proj_bias
    if not torch.is_grad_enabled():
        return _before(x, norm.eps, parameters), x
    return _BeforeAttention.apply(x, norm.eps, *parameters)


def after_attention(layer: nn.TransformerEncoderLayer, x: Tensor, mixed: Tensor) -> Tensor:
    """What the layer gives for x and what attention made of it, both [..., d]."""
    modules = layer.self_attn.out_proj, layer.norm2, layer.linear1, layer.linear2
    parameters = [p for module in modules for p in (module.weight, module.bias)]
    if not torch.is_grad_enabled():
        return _after(x, mixed, layer.norm2.eps, parameters, False)[0]
    return _AfterAttention.apply(x, mixed, layer.norm2.eps, *parameters)


def last_attention(layer: nn.TransformerEncoderLayer, x: Tensor, sought: Tensor) -> Tensor:
    """Normed rows of windows x [b, T, d], weighed by softmax of ``sought`` [b, heads, d]."""
    norm = layer.norm1
    if not torch.is_grad_enabled():
        return _last(x, sought, norm.eps, norm.weight, norm.bias)
    return _LastAttention.apply(x, sought, norm.eps, norm.weight, norm.bias)


def with_last_row(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [b, T, d] again, for `last_attention` alone, and the last row of each window [b, d].

    The gradient of the last rows is added to that of x where it lies: a slice's would be an x of
    zeros first.
    """
    return _WithLastRow.apply(x) if torch.is_grad_enabled() else (x, x[:, -1])


class _WithLastRow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.view_as(x), x[:, -1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, of_last: Tensor) -> Tensor:
        gradient[:, -1] += of_last
        return gradient


class _LastAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, sought: Tensor, eps: float, weight: Tensor, bias: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, sought, weight, bias)
        ctx.eps = eps
        return _last(x, sought, eps, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, sought, weight, bias = ctx.saved_tensors
        of_x, of_sought, *of_norm = _last_gradient(gradient, x, sought, ctx.eps, weight, bias)
        return of_x, of_sought, None, *of_norm


class _BeforeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, *parameters)
        ctx.eps = eps
        return _before(x, eps, parameters), x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, passed: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        of_x, *rest = _before_gradient(gradient, passed, x, ctx.eps, parameters)
        return of_x, None, *rest


class _AfterAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mixed: Tensor, eps: float, *parameters: Tensor) -> Tensor:
        out, *kept = _after(x, mixed, eps, parameters, True)
        ctx.save_for_backward(mixed, *kept, *parameters)
        ctx.eps = eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        mixed, middle, before_gelu, *parameters = ctx.saved_tensors
        of_x, of_mixed, *rest = _after_gradient(
            gradient, mixed, middle, before_gelu, ctx.eps, parameters
        )
        return of_x, of_mixed, None, *rest


# Operators of torch, so that its profiler names them and its counter of FLOPs knows them.


@torch.library.custom_op("tfa_perf::before_attention", mutates_args=())
def _before(x: Tensor, eps: float, parameters: list[Tensor]) -> Tensor:
    made = kernels.before_attention(
        _rows(x), *before_parts(parameters, eps), num_threads=kernel_threads()
    )
    return torch.from_numpy(made).view(*x.shape[:-1], -1)


@torch.library.custom_op("tfa_perf::before_attention_gradient", mutates_args=())
def _before_gradient(
    gradient: Tensor, passed: Tensor, x: Tensor, eps: float, parameters: list[Tensor]
) -> list[Tensor]:
    norm, projection = before_parts(parameters, eps)
    made = kernels.before_attention_gradient(
        _rows(gradient), _rows(x), norm, projection, _rows(passed), num_threads=kernel_threads()
    )
    found = made.norm.weight, made.norm.bias, *made.projection
    return [torch.from_numpy(made.x).view_as(x), *map(own_memory, found)]


@torch.library.custom_op("tfa_perf::after_attention", mutates_args=())
def _after(
    x: Tensor, mixed: Tensor, eps: float, parameters: list[Tensor], keep: bool
) -> list[Tensor]:
    """The result, and what goes into the norm and into GELU, without rows unless ``keep``."""
    made = kernels.after_attention(
        _rows(x), _rows(mixed), *_after_parts(parameters, eps),
        keep=keep, num_threads=kernel_threads(),
    )  # fmt: skip
    return [torch.from_numpy(made.out).view_as(x), *map(torch.from_numpy, made[1:])]


@torch.library.custom_op("tfa_perf::after_attention_gradient", mutates_args=())
def _after_gradient(
    gradient: Tensor,
    mixed: Tensor,
    middle: Tensor,
    before_gelu: Tensor,
    eps: float,
    parameters: list[Tensor],
) -> list[Tensor]:
    rows = _rows(gradient)
    made = kernels.after_attention_gradient(
        rows, _rows(mixed), kernels.AfterAttention(rows, as_array(middle), as_array(before_gelu)),
        *_after_parts(parameters, eps), num_threads=kernel_threads(),
    )  # fmt: skip
    found = *made.output, made.norm.weight, made.norm.bias, *made.first, *made.second
    of_rows = (torch.from_numpy(t).view_as(mixed) for t in (made.x, made.mixed))
    return [*of_rows, *map(own_memory, found)]


@torch.library.custom_op("tfa_perf::last_rows", mutates_args=())
def _last(x: Tensor, sought: Tensor, eps: float, weight: Tensor, bias: Tensor) -> Tensor:
    norm = kernels.LayerNorm(as_array(weight), as_array(bias), eps)
    made = last_rows.last_attention(
        as_array(x), norm, as_array(sought), num_threads=kernel_threads()
    )
    return torch.from_numpy(made)


@torch.library.custom_op("tfa_perf::last_rows_gradient", mutates_args=())
def _last_gradient(
    gradient: Tensor, x: Tensor, sought: Tensor, eps: float, weight: Tensor, bias: Tensor
) -> list[Tensor]:
    norm = kernels.LayerNorm(as_array(weight), as_array(bias), eps)
    made = last_rows.last_attention_gradient(
        as_array(gradient), as_array(x), norm, as_array(sought), num_threads=kernel_threads()
    )
    found = made.norm.weight, made.norm.bias
    return [torch.from_numpy(made.x), torch.from_numpy(made.sought), *map(own_memory, found)]


def own_memory(part: Any) -> Tensor:
    """Memory of its own, as an operator's results must have: gradients are parts of one array."""
    return torch.from_numpy(part.copy())


def before_parts(parameters: list[Tensor], eps: float) -> tuple[Any, ...]:
    """Norm and projection as the kernels take them."""
    norm_weight, norm_bias, weight, bias = map(as_array, parameters)
    return kernels.LayerNorm(norm_weight, norm_bias, eps), kernels.Linear(weight, bias)


def _after_parts(parameters: list[Tensor], eps: float) -> tuple[Any, ...]:
    weight, bias, norm_weight, norm_bias, *rest = map(as_array, parameters)
    return (
        kernels.Linear(weight, bias),
        kernels.LayerNorm(norm_weight, norm_bias, eps),
        kernels.Linear(*rest[:2]),
        kernels.Linear(*rest[2:]),
    )


def _rows(t: Tensor) -> Any:
    return as_array(t).reshape(-1, t.shape[-1])


@register_flop_formula(torch.ops.tfa_perf.before_attention)
def _flops_before(x: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return 2 * math.prod(x) * int(out_shape[-1])


@register_flop_formula(torch.ops.tfa_perf.before_attention_gradient)
def _flops_before_gradient(gradient: Any, passed: Any, *_: Any, **__: Any) -> int:
    return 4 * math.prod(passed) * int(gradient[-1])


@register_flop_formula(torch.ops.tfa_perf.after_attention)
def _flops_after(x: Any, mixed: Any, eps: Any, parameters: Any, *_: Any, **__: Any) -> int:
    d, hidden = x[-1], parameters[4][0]
    return int(2 * math.prod(x) * (d + 2 * hidden))


@register_flop_formula(torch.ops.tfa_perf.after_attention_gradient)
def _flops_after_gradient(
    gradient: Any, mixed: Any, _: Any, gelu: Any, *__: Any, **___: Any
) -> int:
    return int(4 * math.prod(mixed) * (mixed[-1] + 2 * gelu[-1]))


@register_flop_formula(torch.ops.tfa_perf.last_rows)
def _flops_last(x: Any, sought: Any, *_: Any, **__: Any) -> int:
    """Scores, and the sums of weighted rows."""
    return int(4 * math.prod(sought) * x[1])


@register_flop_formula(torch.ops.tfa_perf.last_rows_gradient)
def _flops_last_gradient(_: Any, x: Any, sought: Any, *__: Any, **___: Any) -> int:
    """Four products; the scores that are made again are not counted."""
    return 2 * _flops_last(x, sought)
