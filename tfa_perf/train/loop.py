"""One call to train, one to validate."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tfa_perf.config import TrainConfig
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.bf16 import probed, use_bf16
from tfa_perf.train.metrics import Validation, validation
from tfa_perf.train.ranks import ALONE, Ranks
from tfa_perf.train.trainer import Step, Trainer

__all__ = ["Step", "evaluate", "train_steps"]


def train_steps(
    model: nn.Module, loader: WindowLoader, config: TrainConfig, device: torch.device | str
) -> Iterator[Step]:
    """Fit ``model`` for ``config.epochs`` passes over ``loader``; yields after every step.

    The gradient of a step is that of the mean loss over all windows of its
    ``config.accumulation`` batches, however they are cut into micro-batches.
    """
    config = probed(config, model, loader, torch.device(device))
    return Trainer(model, loader, config, device).steps()


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: WindowLoader,
    config: TrainConfig,
    device: torch.device | str,
    *,
    ranks: Ranks = ALONE,
) -> Validation:
    """Figures of ``model`` over one pass of ``loader``; the model's mode is restored.

    With several ranks each passes its own share, and all get the figures of all windows.

    Raises ValueError where the loader yields no window.
    """
    device = torch.device(device)
    was_training = model.training
    model.eval()
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    try:
        for x, y in loader:
            with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16(config, device)):
                parts = x.to(device, non_blocking=True).split(config.micro_batch or len(x))
                logits.extend(model(part).float().flatten() for part in parts)
            labels.append(y.to(device, non_blocking=True).flatten())
    finally:
        model.train(was_training)
    if ranks.several:
        logits, labels = (
            [part for own in ranks.gathered([p.cpu() for p in parts]) for part in own]
            for parts in (logits, labels)
        )
    if not logits:
        raise ValueError("loader: yields no window to validate with; lower data.train_fraction")
    # Once, so that all ranks decide alike by it.
    return ranks.from_first(lambda: validation(torch.cat(logits), torch.cat(labels)))
