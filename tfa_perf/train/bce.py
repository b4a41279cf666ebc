"""Binary cross entropy of logits, the default criterion; summed by one kernel on a CUDA device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tfa_perf.train.attention import have_kernels

__all__ = ["BinaryCrossEntropy"]

# Windows that one program adds up in no time that counts.
MOST = 1 << 14


class BinaryCrossEntropy:
    """Losses of logits and labels in 0..1; those of label 1 count ``pos_weight`` times, a scalar.

    Called with both [b, 1], it gives [b, 1].
    """

    def __init__(self, pos_weight: Tensor | None = None) -> None:
        self._pos_weight = pos_weight

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            logits, y, reduction="none", pos_weight=self._pos_weight
        )

    def weighted_sum(self, logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Sum of losses times ``weight`` [b, 1], up to the order of the sum.

        On a CUDA device the gradient of the logits is computed along with it, by the same kernel;
        compiled code is left to torch's compiler.
        """
        if self._in_kernel(logits, y, weight):
            return _WeightedSum.apply(logits, y, weight, self._pos_weight)
        return (self(logits, y) * weight).sum()

    def _in_kernel(self, logits: Tensor, y: Tensor, weight: Tensor) -> bool:
        tensors = [t for t in (logits, y, weight, self._pos_weight) if t is not None]
        return (
            logits.is_cuda
            and not torch.compiler.is_compiling()
            and not any(t.requires_grad for t in tensors[1:])
            and all(t.dtype == torch.float32 and t.is_contiguous() for t in tensors)
            and all(t.device == logits.device for t in tensors)
            and 0 < logits.numel() <= MOST
            and logits.shape == y.shape == weight.shape
            and (self._pos_weight is None or self._pos_weight.numel() == 1)
            and have_kernels(logits.device)
        )


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, y: Tensor, weight: Tensor, pos_weight: Tensor | None
    ) -> Tensor:
        from tfa_perf.train._bce_triton import weighted_sum

        total, gradient = weighted_sum(logits, y, weight, pos_weight)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (of_logits,) = ctx.saved_tensors
        return of_logits * gradient, None, None, None
