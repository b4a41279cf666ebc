# mypy: ignore-errors
"""A weighted sum of binary cross entropies and its gradient, one Triton kernel of one program."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_VALUES = 1024


def weighted_sum(
    logits: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, pos_weight: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum, a scalar, and the gradient of the logits; all contiguous float32 of one shape."""
    total, gradient = logits.new_empty(()), torch.empty_like(logits)
    with torch.cuda.device(logits.device):
        _weighted_sum[(1,)](
            logits, y, weight, pos_weight, total, gradient, logits.numel(), _VALUES
        )  # fmt: skip
    return total, gradient


@triton.jit(do_not_specialize=["count"])
def _weighted_sum(logits, y, weight, pos_weight, out, gradient, count, VALUES: tl.constexpr):
    sums = tl.zeros((VALUES,), tl.float32)
    times = 1.0
    if pos_weight is not None:
        times = tl.load(pos_weight)
    for first in range(0, count, VALUES):
        at = first + tl.arange(0, VALUES)
        z = tl.load(logits + at, mask=at < count, other=0.0)
        label = tl.load(y + at, mask=at < count, other=0.0)
        w = tl.load(weight + at, mask=at < count, other=0.0)
        positive, negative = times * label, 1.0 - label
        small = tl.exp(-tl.abs(z))
        # log1p as Higham has it (Accuracy and Stability of Numerical Algorithms, 2002, 1.14.1):
        # Triton's log has no digits of so small a sum.
        one = 1.0 + small
        log1p = tl.where(one == 1.0, small, tl.log(one) * small / (one - 1.0))
        loss = positive * (log1p + tl.maximum(-z, 0.0)) + negative * (log1p + tl.maximum(z, 0.0))
        # Of z >= 0, and of others.
        sigmoid = tl.where(z < 0, small, 1.0) / one
        sums += loss * w
        change = ((positive + negative) * sigmoid - positive) * w
        tl.store(gradient + at, change, mask=at < count)
    tl.store(out, tl.sum(sums, 0))
