"""The training loop, readable from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tfa_perf.config import TrainConfig
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.optimizer import make_optimizer
from tfa_perf.train.step import make_step

__all__ = ["Step", "evaluate", "train_steps", "use_bf16"]


@dataclass(frozen=True)
class Step:
    """One optimizer step: its epoch (from 0), how many windows it saw, and their loss.

    ``loss`` is the mean over the windows as a tensor on the model's device: reading it makes
    the host wait for the device, so read it as rarely as you need it.
    """

    epoch: int
    windows: int
    loss: Tensor


def train_steps(
    model: nn.Module, loader: WindowLoader, config: TrainConfig, device: torch.device | str
) -> Iterator[Step]:
    """Fit ``model`` (logits for a binary label) for ``config.epochs`` passes over ``loader``.

    Yields after every optimizer step, so that the caller decides what to log, when to stop and
    what to time; nothing in here makes the host wait for the device. The gradient of a step is
    that of the mean loss over all windows of its ``config.accumulation`` batches, however they
    are cut into micro-batches.
    """
    device = torch.device(device)
    optimizer = make_optimizer(model, lr=config.lr, weight_decay=config.weight_decay)
    step = make_step(
        model,
        optimizer,
        loader,
        clip_norm=config.clip_norm,
        accumulation=config.accumulation,
        micro_batch=config.micro_batch,
        bf16=use_bf16(config, device),
        compile=config.compile,
        graph=device.type == "cuda" if config.graph is None else config.graph,
    )
    model.train()
    for epoch in range(config.epochs):
        loader.set_epoch(epoch)
        for windows in step.epoch():
            yield Step(epoch, windows, step.loss)


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


def use_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether the config's ``amp`` means bfloat16 autocast on ``device``."""
    return config.amp == "bf16" or (config.amp == "auto" and device.type == "cuda")
