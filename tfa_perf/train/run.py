"""``tfa-perf train``: bars to a fitted model, with a progress bar that leaves the device alone."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from tfa_perf.config import Config
from tfa_perf.data.bars import Bars
from tfa_perf.data.dataset import Dataset, build_dataset, store_dataset
from tfa_perf.data.store import FeatureStore
from tfa_perf.interrupts import Interrupted
from tfa_perf.train.checkpoint import read_checkpoint, write_checkpoint
from tfa_perf.train.csv_log import CsvLog
from tfa_perf.train.early_stopping import EarlyStopping
from tfa_perf.train.loop import evaluate
from tfa_perf.train.memory import advice, out_of_memory
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.progress import StepProgress
from tfa_perf.train.ranks import ALONE, Ranks
from tfa_perf.train.resume import last_checkpoint, resume_from
from tfa_perf.train.schedule import learning_rate
from tfa_perf.train.setup import Setup, set_up
from tfa_perf.train.signals import Signals
from tfa_perf.train.tensorboard_log import TensorBoardLog
from tfa_perf.train.threads import torch_threads
from tfa_perf.train.written import check_writable

__all__ = ["save_model", "train"]


def train(
    config: Config,
    data: Bars | FeatureStore,
    device: torch.device,
    *,
    max_steps: int | None = None,
    out: Path | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
    log: Path | None = None,
    tensorboard: Path | None = None,
    console: Console | None = None,
    ranks: Ranks = ALONE,
) -> WindowEncoder:
    """Fit the model to bars or a store, print one line an epoch; write the model to ``out``.

    ``max_steps`` ends the run after that many optimizer steps, those before a resumption
    included. Into the folder ``checkpoints`` go ``last.pt``, from which ``resume`` continues, and
    ``best.pt``, the model with the lowest validation loss. ``log`` is a CSV file with a row for
    each validation, ``tensorboard`` a folder for the same as TensorBoard's event files.

    With several ``ranks`` each process calls this alike; ``config.train.batch_size`` is that of
    all together, the first alone prints and writes, and a run may go on with another number of
    processes.

    Raises
    ------
    CheckpointError : nothing to resume from, or the checkpoint of a run with another config.
    DeviceMemoryError : the device's memory ran out; the message names settings that fit.
    Interrupted : Ctrl-C or SIGTERM, after the step under way and a checkpoint of it.
    """
    console = console or Console()
    if not ranks.first:
        console = Console(quiet=True)
        out = log = tensorboard = None
    content = None
    if resume:
        content = ranks.from_first(lambda: read_checkpoint(last_checkpoint(checkpoints)))
    if ranks.first:
        last = None if checkpoints is None else checkpoints / "last.pt"
        events_file = None if tensorboard is None else tensorboard / "events.out.tfevents"
        for path in (out, log, last, events_file):
            if path is not None:
                check_writable(path)
    # Takes a second or more, which would be one of the first validation's.
    import torchmetrics.functional.classification  # noqa: F401

    if isinstance(data, FeatureStore):
        dataset = store_dataset(data, config.data)
    else:
        dataset = build_dataset(data, config.data)
    console.print(
        f"{len(data):,} bars, {dataset.X.shape[1]} features, "
        f"{len(dataset.split.train_ends):,} training and {len(dataset.split.val_ends):,} "
        f"validation windows of {config.data.window} bars, on "
        + (f"{ranks.world_size} processes, {device.type}" if ranks.several else str(device)),
        highlight=False,
        soft_wrap=True,
    )
    failure = None
    try:
        with torch_threads(config.train.threads):
            setup = set_up(config, dataset, device, ranks=ranks, content=content)
            stopping = EarlyStopping(config.train.patience)
            if content is not None:
                path = last_checkpoint(checkpoints)
                resume_from(path, content, setup.config, dataset, setup.trainer, stopping)
                console.print(f"resumed after step {setup.trainer.done}", highlight=False)
                if setup.trainer.done >= min(setup.trainer.total, max_steps or sys.maxsize):
                    console.print("no step is left of this run", highlight=False)
            with ExitStack() as stack:
                logs: list[CsvLog | TensorBoardLog] = []
                if log is not None:
                    logs.append(CsvLog(log, after=setup.trainer.done))
                if tensorboard is not None:
                    events = TensorBoardLog(tensorboard, after=setup.trainer.done)
                    logs.append(stack.enter_context(closing(events)))
                total = min(setup.trainer.total, max_steps or sys.maxsize)
                _fit(setup, dataset, stopping, total, checkpoints, logs, console)
    except RuntimeError as error:
        failure = out_of_memory(error) if device.type == "cuda" else None
        if failure is None:
            raise
        # The frames that failed hold the activations.
        traceback.clear_frames(error.__traceback__)
    if failure is not None:
        setup = stopping = events = None  # type: ignore[assignment]
        logs = []
        console.print("out of memory: trying settings that take less", highlight=False)
        raise advice(config, dataset, device, failure, world_size=ranks.world_size)
    if out is not None:
        save_model(out, setup.model, setup.config, dataset)
        console.print(f"wrote {out}", highlight=False, soft_wrap=True)
    return setup.model


def _fit(
    setup: Setup,
    dataset: Dataset,
    stopping: EarlyStopping,
    total: int,
    checkpoints: Path | None,
    logs: Sequence[CsvLog | TensorBoardLog],
    console: Console,
) -> None:
    """Take the steps up to ``total``; validate, log and write checkpoints on the way."""
    began = time.perf_counter()
    config, trainer = setup.config, setup.trainer
    ranks = trainer.ranks

    def write_last() -> None:
        if checkpoints is None:
            return
        content = {
            "trainer": trainer.state_dict(),
            "stopping": stopping.state_dict(),
            "config": config.model_dump(),
            "scaler": dataset.scaler.to_dict(),
        }
        if ranks.first:
            write_checkpoint(checkpoints / "last.pt", content)

    with (
        StepProgress(total - trainer.done, log_every=config.train.log_every, console=console) as (
            progress
        ),
        # Several processes would stop after different steps.
        Signals(heed=not ranks.several) as signals,
    ):
        for step in () if stopping.stop else trainer.steps(until=total):
            progress.step(epoch=step.epoch, windows=step.windows, loss=step.loss, steps=step.steps)
            epoch_ends = trainer.done % trainer.steps_per_epoch == 0
            number = signals.received
            if not epoch_ends and (
                number
                or trainer.done == total
                or trainer.done % (config.train.checkpoint_every or sys.maxsize) == 0
            ):
                # Before a look at the validation loss that the whole run would not take.
                write_last()
            if epoch_ends or trainer.done == total:
                result = evaluate(
                    trainer.model, setup.val_loader, config.train, trainer.device, ranks=ranks
                )
                train_loss = trainer.step.mean_loss()
                progress.line(
                    f"epoch {step.epoch + 1}  step {trainer.done}  train loss {train_loss:.5f}  "
                    f"val loss {result.loss:.5f}  AUC {result.auc:.4f}  "
                    f"calibration error {result.calibration_error:.4f}"
                )
                progress.reset()
                # Before the checkpoint: a resumed run drops what was logged after it, and adds
                # nothing.
                rate = learning_rate(trainer.done - 1, trainer.total, config.train)
                seconds = round(time.perf_counter() - began, 3)
                for log in logs:
                    log.write(step.epoch + 1, trainer.done, seconds, rate, train_loss, *result)
                if epoch_ends:
                    best = stopping.update(result.loss)
                    if best and checkpoints is not None and ranks.first:
                        save_model(checkpoints / "best.pt", trainer.model, config, dataset)
                    write_last()
                if stopping.stop:
                    progress.line(f"no lower validation loss for {config.train.patience} epochs")
                    break
            if epoch_ends:
                # One that came while it was validated; the checkpoint is of after that.
                number = signals.received
            if number:
                raise Interrupted(number, _where(trainer.done, checkpoints))


def _where(done: int, checkpoints: Path | None) -> str:
    kept = "" if checkpoints is None else f"; {checkpoints / 'last.pt'} is where --resume goes on"
    return f"interrupted after step {done}{kept}"


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
