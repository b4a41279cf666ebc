"""A linear layer that takes oneDNN's matrix products where they are to be had."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["linear"]


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, residual: Tensor | None = None
) -> Tensor:
    """``residual + x @ weight.T + bias``: x [..., K], weight [N, K], bias [N] -> [..., N].

    For float32 on a CPU ``F.linear`` calls MKL, which off Intel's processors runs well below
    what they can do, and copies the bias into the output first. oneDNN has a product of its own
    that adds bias and ``residual`` [..., N] as it writes. It is taken for input, bias and the
    gradient of x; that of the weight, a sum over all rows, is MKL's in either case. Everything
    else (another dtype or device, autocast, a graph being compiled or exported) is ``F.linear``.
    """
    if not (_onednn_is_there(x) and _fit(x, weight, bias, residual)):
        y = F.linear(x, weight, bias)
        return y if residual is None else residual + y
    if not torch.is_grad_enabled():
        return _product(x, weight, bias, residual)
    return _Linear.apply(x, weight, bias, residual)


def _onednn_is_there(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _fit(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None) -> bool:
    # What does not fit is for F.linear to refuse: oneDNN's operator reads on without a check.
    columns, width = weight.shape
    return (
        all(t is None or t.dtype == torch.float32 for t in (x, weight, bias, residual))
        and x.numel() > 0
        and x.shape[-1] == width
        and (bias is None or bias.shape == (columns,))
        and (residual is None or residual.shape == (*x.shape[:-1], columns))
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
    # The operators that torch.compile itself emits for linear layers on a CPU.
    onednn = torch.ops.mkldnn._linear_pointwise
    if residual is None:
        return onednn(x, weight, bias, "none", [], "")
    return onednn.binary(x, residual, weight, bias, "add")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias, residual)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, needs_residual = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            _product(rows, weight.t(), None, None).view_as(x) if needs_x else None,
            _of_weight(rows, x.reshape(-1, x.shape[-1])) if needs_weight else None,
            rows.sum(0) if needs_bias else None,
            grad if needs_residual else None,
        )


def _of_weight(grad: Tensor, x: Tensor) -> Tensor:
    """grad^T x, the wider of the two along the vectors of the product."""
    if grad.shape[1] > x.shape[1]:
        return (x.t() @ grad).t().contiguous()
    return grad.t() @ x
