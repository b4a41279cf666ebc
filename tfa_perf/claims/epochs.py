"""Whole epochs, one round in each fresh process; and how many epochs early stopping takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tfa_perf.baseline.loop import train_steps as train_steps_as_written
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.claims.finding import Finding, found, invalid
from tfa_perf.claims.fresh import in_fresh_process
from tfa_perf.claims.measure import paired_ratio
from tfa_perf.claims.paired import Comparison
from tfa_perf.claims.verdict import estimate_of
from tfa_perf.claims.workload import Workload
from tfa_perf.config import Config
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.early_stopping import EarlyStopping
from tfa_perf.train.loop import evaluate
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.trainer import Trainer

__all__ = ["measure_early_stopping", "measure_total", "one_round"]

_PROCESSES = 6
_T = 48
_SEEDS, _PATIENCE = 6, 3
_LOSS_TOLERANCE = 2e-3


def measure_total(work: Workload, wanted: Collection[str]) -> Iterator[Finding]:
    """Epochs of the report's trainer beside ours, with its model and with the recommended one."""
    if "total" not in wanted:
        return
    results = [in_fresh_process("epochs", work.folder, str(k)) for k in range(_PROCESSES)]
    tuned = work.tuned
    again = paired_ratio([r["again"] for r in results], [r["before"] for r in results])
    before = [r["before"] for r in results]
    batch = work.fitting(work.sizes.report_batch)
    model = (
        f"T {tuned.data.window} d{tuned.model.d_model} h{tuned.model.nhead} "
        f"L{tuned.model.num_layers}"
    )
    workload = f"{work.describe(_T, batch)}, {results[0]['windows']:,} windows an epoch"
    for key, variant, compared in (
        ("same", "our trainer, the report's model", "losses of the first epoch within 0.002"),
        ("tuned", f"our trainer, the recommended model ({model})", "not comparable: another model"),
    ):
        differ = max(abs(r["loss_before"] - r["loss_same"]) for r in results)
        if key == "same" and not differ <= _LOSS_TOLERANCE:
            yield invalid("total", variant, workload, f"losses differ by {differ:.2g}")
            continue
        after = [r[key] for r in results]
        comparison = Comparison(
            paired_ratio(before, after), again, float(np.median(before)), float(np.median(after))
        )
        yield found("total", variant, workload, compared, comparison)


def one_round(folder: Path, argument: str) -> dict[str, Any]:
    """Seconds of an epoch: as written twice, ours with its model, ours with the recommended one.

    ``argument`` is the round's number; the order turns with it.
    """
    work = Workload.load(folder)
    batch = work.fitting(work.sizes.report_batch)
    windows = work.windows_as_written(_T, batch, most=work.sizes.epoch)
    count = windows.end - windows.start + 1
    valid = np.zeros(len(work.X), np.bool_)
    valid[windows.start : windows.end + 1] = True

    written = _as_written(work, windows, batch)
    same = _Ours(work, work.report, valid, batch)
    tuned = _Ours(work, work.tuned, valid, batch)
    loss_same, _ = same.epoch(), tuned.epoch()
    sides: list[tuple[str, Callable[[], float]]] = [
        ("again", written),
        ("before", written),
        ("same", same.epoch),
        ("tuned", tuned.epoch),
    ]
    _warm(work, batch)
    found: dict[str, Any] = {"windows": count, "loss_same": loss_same}
    for name, side in sides if int(argument) % 2 == 0 else sides[::-1]:
        _wait(work)
        start = time.perf_counter()
        loss = side()
        _wait(work)
        found[name] = time.perf_counter() - start
        if name == "before":
            found["loss_before"] = loss
    return found


def _as_written(work: Workload, windows: Any, batch: int) -> Callable[[], float]:
    def epoch() -> float:
        train = work.report.train.model_copy(update={"epochs": 1, "batch_size": batch})
        torch.manual_seed(train.seed)
        model = TFATransformer(work.features, work.report.model).to(work.device)
        with open(os.devnull, "w", encoding="utf-8") as log, redirect_stdout(log):
            return list(train_steps_as_written(model, windows, train, work.device))[-1]

    return epoch


def _warm(work: Workload, batch: int) -> None:
    _as_written(work, work.windows_as_written(_T, batch, most=batch), batch)()


class _Ours:
    """Epoch after epoch of our trainer: the first compiles and captures what it needs."""

    def __init__(self, work: Workload, config: Config, valid: Any, batch: int) -> None:
        accumulation = config.train.accumulation
        loader = WindowLoader(
            work.X,
            work.y,
            window=config.data.window,
            valid=valid,
            batch_size=max(1, batch // accumulation),
            device=work.device,
        )
        torch.manual_seed(config.train.seed)
        model = WindowEncoder(work.features, config.model).to(work.device)
        self._trainer = Trainer(model, loader, config.train, work.device)
        self._steps = self._trainer.steps()

    def epoch(self) -> float:
        taken = 0
        while taken < self._trainer.steps_per_epoch:
            taken += next(self._steps).steps
        return self._trainer.step.mean_loss()


def _wait(work: Workload) -> None:
    if work.device.type == "cuda":
        torch.cuda.synchronize(work.device)


def measure_early_stopping(work: Workload, wanted: Collection[str]) -> Iterator[Finding]:
    """Epochs planned over epochs run until the validation loss has not fallen for three."""
    if "early-stopping" not in wanted:
        return
    config = work.tuned
    runs = [_epochs_until_stop(work, config, seed) for seed in range(_SEEDS)]
    repeated = _epochs_until_stop(work, config, 0)
    planned = float(config.train.epochs)
    ratio = paired_ratio([planned] * _SEEDS, [float(stop) for stop, _ in runs])
    # The same seed again: a count has no noise to pair away, but it must repeat.
    again = paired_ratio([float(runs[0][0])], [float(repeated[0])])
    best = sorted(best for _, best in runs)
    note = (
        f"lowest validation loss after epoch {best[0]} to {best[-1]}, over {_SEEDS} seeds; "
        "A/A repeats the first seed"
    )
    m = config.model
    text = f"d{m.d_model} h{m.nhead} L{m.num_layers} f{m.ffn_hidden}"
    yield found(
        "early-stopping",
        f"patience {_PATIENCE}: epochs of {config.train.epochs}, not seconds",
        work.describe(config.data.window, config.train.batch_size, text),
        "not comparable: fewer epochs",
        (estimate_of(ratio, "speedup"), again),
        note=note,
    )


def _epochs_until_stop(work: Workload, config: Config, seed: int) -> tuple[int, int]:
    """Epochs run, and the epoch with the lowest validation loss (from 1)."""
    most = len(work.train_ends) if work.sizes.epoch >= 2048 else work.sizes.epoch
    loaders = []
    for ends, shuffle in ((work.train_ends[-most:], True), (work.val_ends, False)):
        valid = np.zeros(len(work.X), np.bool_)
        valid[ends] = True
        loaders.append(
            WindowLoader(
                work.X,
                work.y,
                window=config.data.window,
                valid=valid,
                batch_size=config.train.batch_size,
                shuffle=shuffle,
                seed=seed,
                device=work.device,
            )
        )
    torch.manual_seed(seed)
    model = WindowEncoder(work.features, config.model).to(work.device)
    trainer = Trainer(model, loaders[0], config.train, work.device)
    stopping, best, done = EarlyStopping(_PATIENCE), 0, 0
    for step in trainer.steps():
        if trainer.done % trainer.steps_per_epoch:
            continue
        done = step.epoch + 1
        if stopping.update(evaluate(model, loaders[1], config.train, work.device).loss):
            best = done
        if stopping.stop:
            break
    return done, best
