"""``tfa-perf train``: bars to a fitted model, with a progress bar that leaves the device alone."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tfa_perf.config import Config, ConfigError
from tfa_perf.data.bars import Bars
from tfa_perf.data.dataset import Dataset, build_dataset
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.checkpoint import read_checkpoint, write_checkpoint
from tfa_perf.train.csv_log import CsvLog
from tfa_perf.train.early_stopping import EarlyStopping
from tfa_perf.train.loop import evaluate
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.progress import StepProgress
from tfa_perf.train.resume import last_checkpoint, resume_from, with_amp_known
from tfa_perf.train.schedule import learning_rate
from tfa_perf.train.step import Criterion
from tfa_perf.train.threads import torch_threads
from tfa_perf.train.trainer import Trainer

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
    valid = np.zeros(len(dataset.X), np.bool_)
    valid[dataset.split.train_ends if training else dataset.split.val_ends] = True
    return WindowLoader(
        dataset.X,
        dataset.y,
        window=config.data.window,
        valid=valid,
        batch_size=config.train.batch_size,
        shuffle=training and config.train.shuffle,
        seed=config.train.seed,
        device=device,
        num_threads=config.train.threads,
    )


def train(
    config: Config,
    bars: Bars,
    device: torch.device,
    *,
    max_steps: int | None = None,
    out: Path | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
    log: Path | None = None,
    console: Console | None = None,
) -> WindowEncoder:
    """Build the dataset, fit the model, print one line an epoch; write the model to ``out``.

    ``max_steps`` ends the run after that many optimizer steps, those before a resumption
    included. Into the folder ``checkpoints`` go ``last.pt``, from which ``resume`` continues, and
    ``best.pt``, the model with the lowest validation loss. ``log`` is a CSV file with a row for
    each validation.

    Raises
    ------
    CheckpointError : nothing to resume from, or the checkpoint of a run with another config.
    """
    console = console or Console()
    if out is not None:
        _check_folder(out)
    if log is not None:
        _check_folder(log)
    if checkpoints is not None:
        checkpoints.mkdir(parents=True, exist_ok=True)
        _check_folder(checkpoints / "last.pt")
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
    content = read_checkpoint(last_checkpoint(checkpoints)) if resume else None
    torch.manual_seed(config.train.seed)
    model = WindowEncoder(dataset.X.shape[1], config.model, window=config.data.window).to(device)
    with torch_threads(config.train.threads):
        config = with_amp_known(config, content, model, train_loader, device)
        criterion = make_criterion(config, dataset, device)
        trainer = Trainer(model, train_loader, config.train, device, criterion=criterion)
        stopping = EarlyStopping(config.train.patience)
        if content is not None:
            resume_from(last_checkpoint(checkpoints), content, config, dataset, trainer, stopping)
            console.print(f"resumed after step {trainer.done}", highlight=False)
        rows = None if log is None else CsvLog(log, after=trainer.done)
        total = min(trainer.total, max_steps or sys.maxsize)
        _fit(config, dataset, trainer, val_loader, stopping, total, checkpoints, rows, console)
    if out is not None:
        save_model(out, model, config, dataset)
        console.print(f"wrote {out}", highlight=False, soft_wrap=True)
    return model


def _fit(
    config: Config,
    dataset: Dataset,
    trainer: Trainer,
    val_loader: WindowLoader,
    stopping: EarlyStopping,
    total: int,
    checkpoints: Path | None,
    log: CsvLog | None,
    console: Console,
) -> None:
    """Take the steps up to ``total``; validate, log and write checkpoints on the way."""
    began = time.perf_counter()

    def write_last() -> None:
        if checkpoints is not None:
            content = {
                "trainer": trainer.state_dict(),
                "stopping": stopping.state_dict(),
                "config": config.model_dump(),
                "scaler": dataset.scaler.to_dict(),
            }
            write_checkpoint(checkpoints / "last.pt", content)

    with StepProgress(total - trainer.done, log_every=config.train.log_every, console=console) as (
        progress
    ):
        steps = () if stopping.stop else trainer.steps()
        for step in islice(steps, max(0, total - trainer.done)):
            progress.step(epoch=step.epoch, windows=step.windows, loss=step.loss)
            epoch_ends = trainer.done % trainer.steps_per_epoch == 0
            if not epoch_ends and (
                trainer.done == total
                or trainer.done % (config.train.checkpoint_every or sys.maxsize) == 0
            ):
                # Before a look at the validation loss that the whole run would not take.
                write_last()
            if epoch_ends or trainer.done == total:
                result = evaluate(trainer.model, val_loader, config.train, trainer.device)
                train_loss = trainer.step.mean_loss()
                progress.line(
                    f"epoch {step.epoch + 1}  step {trainer.done}  train loss {train_loss:.5f}  "
                    f"val loss {result.loss:.5f}  AUC {result.auc:.4f}  "
                    f"calibration error {result.calibration_error:.4f}"
                )
                progress.reset()
                if log is not None:
                    # Before the checkpoint: a resumed run drops rows after it, and adds none.
                    rate = learning_rate(trainer.done - 1, trainer.total, config.train)
                    seconds = round(time.perf_counter() - began, 3)
                    log.write(step.epoch + 1, trainer.done, seconds, rate, train_loss, *result)
                if epoch_ends:
                    if stopping.update(result.loss) and checkpoints is not None:
                        save_model(checkpoints / "best.pt", trainer.model, config, dataset)
                    write_last()
                if stopping.stop:
                    progress.line(f"no lower validation loss for {config.train.patience} epochs")
                    break


def make_criterion(config: Config, dataset: Dataset, device: torch.device) -> Criterion | None:
    """Binary cross entropy with the config's ``pos_weight``; None where it has none.

    Raises ConfigError for "balanced" where all training windows have the same label.
    """
    weight = config.train.pos_weight
    if weight is None:
        return None
    if weight == "balanced":
        labels = dataset.y[dataset.split.train_ends]
        positive = float(labels.sum())
        if not 0 < positive < len(labels):
            raise ConfigError(
                "train.pos_weight: balanced needs both labels among the training windows, "
                f"{positive:.0f} of {len(labels)} are 1; use a number"
            )
        weight = (len(labels) - positive) / positive
    return partial(
        binary_cross_entropy_with_logits,
        reduction="none",
        pos_weight=torch.tensor(float(weight), device=device),
    )


def _check_folder(out: Path) -> None:
    # Before training, not after it.
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise PermissionError(f"{out}: cannot be written; choose a file in a folder of your own")


def save_model(path: Path, model: nn.Module, config: Config, dataset: Dataset) -> None:
    """Write weights, config, scaler and feature names; an existing file is replaced whole.

    ``torch.load(path, weights_only=True)`` reads it.
    """
    write_checkpoint(
        path,
        {
            "model": model.state_dict(),
            "config": config.model_dump(),
            "scaler": dataset.scaler.to_dict(),
            "features": list(dataset.names),
        },
    )
