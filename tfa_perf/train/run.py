"""``tfa-perf train``: bars to a fitted model, with a progress bar that leaves the device alone."""

from __future__ import annotations

import os
import sys
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console

from tfa_perf.config import Config
from tfa_perf.data.bars import Bars
from tfa_perf.data.dataset import Dataset, build_dataset
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.loop import evaluate, train_steps
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.progress import StepProgress

__all__ = ["DeviceError", "make_loader", "pick_device", "save_model", "train"]


class DeviceError(ValueError):
    """A device that torch does not know or does not have."""


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one, else the CPU.

    Raises
    ------
    DeviceError : the name is no device, or there is none of its kind here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device: {name!r} is no torch device; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device: {name!r} asked for, but torch sees no GPU here; use cpu")
    return device


def make_loader(
    dataset: Dataset, config: Config, device: torch.device, *, part: str = "train"
) -> WindowLoader:
    """Loader over the "train" or the "val" windows of ``dataset``."""
    training = part == "train"
    return WindowLoader(
        dataset.X,
        dataset.y,
        window=config.data.window,
        ends=dataset.split.train_ends if training else dataset.split.val_ends,
        batch_size=config.train.batch_size,
        shuffle=training and config.train.shuffle,
        seed=config.train.seed,
        device=device,
    )


def train(
    config: Config,
    bars: Bars,
    device: torch.device,
    *,
    max_steps: int | None = None,
    out: Path | None = None,
    console: Console | None = None,
) -> WindowEncoder:
    """Build the dataset, fit the model, print one line an epoch; write the model to ``out``.

    ``max_steps`` stops after that many optimizer steps.
    """
    console = console or Console()
    if out is not None:
        _check_folder(out)
    dataset = build_dataset(bars, config.data)
    train_loader = make_loader(dataset, config, device)
    val_loader = make_loader(dataset, config, device, part="val")
    console.print(
        f"{len(bars):,} bars, {dataset.X.shape[1]} features, "
        f"{train_loader.windows:,} training and {val_loader.windows:,} validation windows "
        f"of {config.data.window} bars, on {device}",
        highlight=False,
        soft_wrap=True,
    )
    torch.manual_seed(config.train.seed)
    model = WindowEncoder(dataset.X.shape[1], config.model, window=config.data.window).to(device)
    steps_per_epoch = -(-len(train_loader) // config.train.accumulation)
    total = min(steps_per_epoch * config.train.epochs, max_steps or sys.maxsize)

    with StepProgress(total, log_every=config.train.log_every, console=console) as progress:
        steps = train_steps(model, train_loader, config.train, device)
        for done, step in enumerate(islice(steps, max_steps), start=1):
            progress.step(epoch=step.epoch, windows=step.windows, loss=step.loss)
            if done % steps_per_epoch == 0 or done == total:
                val_loss = evaluate(model, val_loader, config.train, device)
                progress.line(
                    f"epoch {step.epoch + 1}  step {done}  "
                    f"train loss {progress.mean_loss():.5f}  val loss {val_loss:.5f}"
                )
                progress.reset()
    if out is not None:
        save_model(out, model, config, dataset)
        console.print(f"wrote {out}", highlight=False, soft_wrap=True)
    return model


def _check_folder(out: Path) -> None:
    # Before training, not after it.
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise PermissionError(f"{out}: cannot be written; choose a file in a folder of your own")


def save_model(path: Path, model: WindowEncoder, config: Config, dataset: Dataset) -> None:
    """Write weights, config, scaler and feature names; an existing file is replaced whole.

    ``torch.load(path, weights_only=True)`` reads it.
    """
    content = {
        "model": model.state_dict(),
        "config": config.model_dump(),
        "scaler": dataset.scaler.to_dict(),
        "features": list(dataset.names),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
