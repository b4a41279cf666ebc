"""One call to train, one to validate."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from tfa_perf.config import TrainConfig
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.trainer import Step, Trainer, use_bf16

__all__ = ["Step", "evaluate", "train_steps"]


def train_steps(
    model: nn.Module, loader: WindowLoader, config: TrainConfig, device: torch.device | str
) -> Iterator[Step]:
    """Fit ``model`` for ``config.epochs`` passes over ``loader``; yields after every step.

    The gradient of a step is that of the mean loss over all windows of its
    ``config.accumulation`` batches, however they are cut into micro-batches.
    """
    return Trainer(model, loader, config, device).steps()


@torch.no_grad()
def evaluate(
    model: nn.Module, loader: WindowLoader, config: TrainConfig, device: torch.device | str
) -> float:
    """Mean loss of ``model`` over one pass of ``loader``; the model's mode is restored."""
    device = torch.device(device)
    criterion = nn.BCEWithLogitsLoss(reduction="sum")
    was_training = model.training
    model.eval()
    total = torch.zeros((), device=device)
    windows = 0
    for x, y in loader:
        with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16(config, device)):
            logits = model(x)
        total += criterion(logits.float(), y)
        windows += len(x)
    model.train(was_training)
    return total.item() / windows
