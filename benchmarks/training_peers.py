"""Lightning and Accelerate training a model on the stock DataLoader, as their users write it."""

from __future__ import annotations

import importlib.util
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from tfa_perf.config import TrainConfig

Steps = Iterator[Any]


class Windows(Dataset):
    """Map style: one window and its label."""

    def __init__(self, X: np.ndarray, y: np.ndarray, window: int) -> None:
        self.X, self.y, self.window = torch.from_numpy(X), torch.from_numpy(y), window

    def __len__(self) -> int:
        return len(self.X) - self.window + 1

    def __getitem__(self, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        last = first + self.window
        return self.X[first:last], self.y[last - 1 : last]


def stock_loader(X: np.ndarray, y: np.ndarray, window: int, batch: int, device: str) -> Any:
    return DataLoader(
        Windows(X, y, window),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        pin_memory=device == "cuda",
    )


def adamw(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def lightning(model: nn.Module, loader: DataLoader[Any], config: TrainConfig, device: str) -> Steps:
    """Optimizer steps of ``lightning.Trainer.fit``, which owns its loop: it runs in a thread that
    stands still between two steps."""
    import lightning as L

    ready, go = threading.Semaphore(0), threading.Semaphore(0)

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.criterion = model, nn.BCEWithLogitsLoss()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            x, y = batch
            loss = self.criterion(self.model(x), y)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return adamw(self, config)

    class Pause(L.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            ready.release()
            go.acquire()

    error: list[BaseException] = []

    def fit() -> None:
        go.acquire()
        try:
            logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                L.Trainer(
                    accelerator="gpu" if device == "cuda" else device,
                    devices=1,
                    max_epochs=-1,
                    gradient_clip_val=config.clip_norm,
                    logger=False,
                    enable_checkpointing=False,
                    enable_progress_bar=False,
                    enable_model_summary=False,
                    callbacks=[Pause()],
                ).fit(Module(), loader)
        except BaseException as raised:
            error.append(raised)
            ready.release()

    threading.Thread(target=fit, daemon=True).start()
    while True:
        go.release()
        ready.acquire()
        if error:
            raise error[0]
        yield None


def accelerate(
    model: nn.Module, loader: DataLoader[Any], config: TrainConfig, device: str
) -> Steps:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device == "cpu")
    model, optimizer, loader = accelerator.prepare(model, adamw(model, config), loader)
    criterion = nn.BCEWithLogitsLoss()
    model.train()
    while True:
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            yield loss.detach()


def compiled(model: nn.Module, loader: DataLoader[Any], config: TrainConfig, device: str) -> Steps:
    """A plain loop around ``torch.compile``."""
    forward = torch.compile(model, mode="reduce-overhead" if device == "cuda" else "default")
    optimizer, criterion = adamw(model, config), nn.BCEWithLogitsLoss()
    model.train()
    while True:
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            loss = criterion(forward(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            yield loss.detach()


PEERS: dict[str, Callable[..., Steps]] = {
    "Lightning": lightning,
    "Accelerate": accelerate,
    "torch.compile": compiled,
}


def missing(peer: str) -> str | None:
    """The package that ``peer`` needs and is not installed."""
    name = peer.lower()
    return name if name != "torch.compile" and importlib.util.find_spec(name) is None else None
