"""``tfa-perf train``: bars to a fitted model, with a progress bar that leaves the device alone."""

from __future__ import annotations

import os
import sys
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from torch.nn.functional import binary_cross_entropy_with_logits

from tfa_perf.config import Config, ConfigError
from tfa_perf.data.bars import Bars
from tfa_perf.data.dataset import Dataset, build_dataset
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from tfa_perf.train.early_stopping import EarlyStopping
from tfa_perf.train.loop import evaluate
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.progress import StepProgress
from tfa_perf.train.step import Criterion
from tfa_perf.train.trainer import Trainer

__all__ = ["DeviceError", "make_loader", "pick_device", "save_model", "train"]

# A file may have moved; whether it still holds the same bars, the scaler tells.
_MAY_DIFFER = ("bars", "features", "epochs", "patience", "checkpoint_every", "log_every")


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
    checkpoints: Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> WindowEncoder:
    """Build the dataset, fit the model, print one line an epoch; write the model to ``out``.

    ``max_steps`` ends the run after that many optimizer steps, those before a resumption
    included. Into the folder ``checkpoints`` go ``last.pt``, from which ``resume`` continues, and
    ``best.pt``, the model with the lowest validation loss.

    Raises
    ------
    CheckpointError : nothing to resume from, or the checkpoint of a run with another config.
    """
    console = console or Console()
    if out is not None:
        _check_folder(out)
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
    torch.manual_seed(config.train.seed)
    model = WindowEncoder(dataset.X.shape[1], config.model, window=config.data.window).to(device)
    criterion = make_criterion(config, dataset, device)
    trainer = Trainer(model, train_loader, config.train, device, criterion=criterion)
    stopping = EarlyStopping(config.train.patience)
    if resume:
        resume_from(_last(checkpoints), config, dataset, trainer, stopping)
        console.print(f"resumed after step {trainer.done}", highlight=False)
    total = min(trainer.total, max_steps or sys.maxsize)

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
                val_loss = evaluate(model, val_loader, config.train, device)
                progress.line(
                    f"epoch {step.epoch + 1}  step {trainer.done}  "
                    f"train loss {trainer.step.mean_loss():.5f}  val loss {val_loss:.5f}"
                )
                progress.reset()
                if epoch_ends:
                    if stopping.update(val_loss) and checkpoints is not None:
                        save_model(checkpoints / "best.pt", model, config, dataset)
                    write_last()
                if stopping.stop:
                    progress.line(f"no lower validation loss for {config.train.patience} epochs")
                    break
    if out is not None:
        save_model(out, model, config, dataset)
        console.print(f"wrote {out}", highlight=False, soft_wrap=True)
    return model


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


def resume_from(
    path: Path, config: Config, dataset: Dataset, trainer: Trainer, stopping: EarlyStopping
) -> None:
    """Put a run back to where ``path`` was written.

    Raises CheckpointError where it was written under another config or with other bars; only
    what decides when the run ends and what it reports may differ.
    """
    content = read_checkpoint(path)
    if not {"config", "scaler", "trainer", "stopping"} <= content.keys():
        raise CheckpointError(f"{path}: holds a model, not a run to resume; use last.pt")
    own = config.model_dump()
    for section, values in content["config"].items():
        for key, value in values.items():
            if key not in _MAY_DIFFER and own[section].get(key) != value:
                raise CheckpointError(
                    f"{path}: the run has {section}.{key} = {value!r}, here it is "
                    f"{own[section].get(key)!r}; resume with the config of the run"
                )
    if content["scaler"] != dataset.scaler.to_dict():
        raise CheckpointError(
            f"{path}: the run had other training rows (mean and scale of the features differ); "
            "resume with its bars"
        )
    trainer.load_state_dict(content["trainer"])
    stopping.load_state_dict(content["stopping"])


def _last(checkpoints: Path | None) -> Path:
    if checkpoints is None:
        raise CheckpointError("resume: name the folder of the checkpoints too")
    return checkpoints / "last.pt"


def _check_folder(out: Path) -> None:
    # Before training, not after it.
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise PermissionError(f"{out}: cannot be written; choose a file in a folder of your own")


def save_model(path: Path, model: WindowEncoder, config: Config, dataset: Dataset) -> None:
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
