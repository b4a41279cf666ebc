"""The training loop, readable from top to bottom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from tfa_perf.config import TrainConfig
from tfa_perf.data.loader import Batch, WindowLoader

__all__ = ["CPU_MICRO_BATCH", "Step", "evaluate", "train_steps"]

CPU_MICRO_BATCH = 256


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
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    criterion = nn.BCEWithLogitsLoss(reduction="sum")
    micro_batch = config.micro_batch or (CPU_MICRO_BATCH if device.type == "cpu" else None)
    autocast = _autocast(config, device)
    model.train()
    for epoch in range(config.epochs):
        loader.set_epoch(epoch)
        for batches in _groups(loader, config.accumulation):
            windows = sum(len(x) for x, _ in batches)
            optimizer.zero_grad(set_to_none=True)
            loss = torch.zeros((), device=device)
            for x, y in batches:
                size = micro_batch or len(x)
                for x_part, y_part in zip(x.split(size), y.split(size), strict=True):
                    with autocast:
                        logits = model(x_part)
                    part = criterion(logits.float(), y_part) / windows
                    part.backward()
                    loss += part.detach()
            if config.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            yield Step(epoch, windows, loss)


@torch.no_grad()
def evaluate(
    model: nn.Module, loader: WindowLoader, config: TrainConfig, device: torch.device | str
) -> float:
    """Mean loss of ``model`` over one pass of ``loader``; the model's mode is restored."""
    device = torch.device(device)
    autocast = _autocast(config, device)
    criterion = nn.BCEWithLogitsLoss(reduction="sum")
    was_training = model.training
    model.eval()
    total = torch.zeros((), device=device)
    windows = 0
    for x, y in loader:
        with autocast:
            logits = model(x)
        total += criterion(logits.float(), y)
        windows += len(x)
    model.train(was_training)
    return total.item() / windows


def _autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    bf16 = config.amp == "bf16" or (config.amp == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group
