"""The report's training loop: blocking copies, a loss read every step, a print every 1 %."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.data import DataLoader

from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.config import TrainConfig

__all__ = ["train_steps"]


def train_steps(
    model: nn.Module, dataset: SeqWindows, config: TrainConfig, device: torch.device | str
) -> Iterator[float]:
    """Train as the report's loop does; yield the loss of each optimizer step.

    The report's loop takes one batch a step and knows neither accumulation nor autocast, so
    those keys of ``config`` are not read.
    """
    dev = torch.device(device)
    loader_tr = DataLoader(dataset, batch_size=None)
    opt = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    criterion = nn.BCEWithLogitsLoss()
    epochs = config.epochs
    total_batches = -(-(dataset.end - dataset.start + 1) // dataset.batch)
    model.train()

    for ep in range(1, epochs + 1):
        loss_sum = 0.0
        steps = 0
        batch_count = 0

        for bx, by in loader_tr:
            bx, by = bx.to(dev), by.to(dev)
            opt.zero_grad(set_to_none=True)
            loss = criterion(model(bx), by)
            loss.backward()

            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)

            opt.step()
            loss_sum += loss.item()
            steps += 1  # noqa: SIM113
            batch_count += 1  # noqa: SIM113
            if batch_count % max(1, total_batches // 100) == 0:
                progress = (batch_count / total_batches) * 100
                print(f"[TFA] Epoch {ep}/{epochs} - {progress:.1f}% - Loss: {loss_sum / steps:.6f}")
            yield loss_sum / steps
