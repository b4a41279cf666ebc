"""AdamW as every kind of step can use it, and a learning rate that can change under a graph."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["make_optimizer", "set_lr"]


def make_optimizer(
    model: nn.Module, *, lr: float = 1e-3, weight_decay: float = 0.01
) -> torch.optim.AdamW:
    """Fused AdamW over the parameters of ``model``, which is on its device already.

    On a CUDA device it is capturable and its learning rate is a tensor there: a captured step
    then reads the rate of the moment, and nothing in an eager step waits for the device.
    """
    device = next(model.parameters()).device
    if device.type != "cuda":
        return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    return torch.optim.AdamW(
        model.parameters(),
        lr=torch.tensor(lr, device=device),
        weight_decay=weight_decay,
        fused=True,
        capturable=True,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameter groups, in place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
