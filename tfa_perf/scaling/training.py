"""Sweeps of training: one optimizer step, and whole epochs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout

import numpy as np
import torch
from torch import Tensor

from tfa_perf.baseline.loop import train_steps as train_steps_as_written
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.claims.workload import OutputsDiffer
from tfa_perf.config import ModelConfig, load_config
from tfa_perf.data.loader import WindowLoader
from tfa_perf.scaling.data import table
from tfa_perf.scaling.sizes import Sizes
from tfa_perf.scaling.sweep import Call, Sweep
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.trainer import Trainer

__all__ = ["training_sweeps"]

_STEPS = 8
_T, _F, _B = 32, 55, 128
_EPOCH_T, _EPOCH_B = 8, 1024
# Small, so that a CPU gets through as many windows as can be.
_EPOCH_MODEL = ModelConfig(d_model=8, nhead=2, num_layers=1, ffn_hidden=16)
# Below those of the other sweeps: a CPU takes a second for some ten thousand windows.
_EPOCH_ROWS = (1_000, 3_000)
_LOSS_TOLERANCE = 2e-3


def training_sweeps(sizes: Sizes, device: torch.device) -> Iterator[Sweep]:
    """Steps of the tuned config's model over T, B and F, and epochs of a small one over N."""
    model = load_config("tuned").model
    shown = f"d{model.d_model} h{model.nhead} L{model.num_layers} f{model.ffn_hidden}"
    for axis, values in (
        ("T", sizes.step_windows),
        ("B", sizes.step_batches),
        ("F", sizes.features),
    ):
        shape = {"T": _T, "B": _B, "F": _F}

        def sides(size: int, axis: str = axis, shape: dict[str, int] = shape) -> dict[str, Call]:
            now = {**shape, axis: size}
            rows = _STEPS * now["B"] + now["T"] - 1
            return _sides(rows, now["T"], now["B"], now["F"], model, device, steps=1)

        held = ", ".join(f"{name} {size}" for name, size in shape.items() if name != axis)
        yield Sweep(
            f"step-{axis}",
            "one optimizer step",
            axis,
            values,
            f"{held}, {shown}, {device.type}",
            sides,
            _same_losses,
        )
    small = _EPOCH_MODEL
    yield Sweep(
        "epoch-N",
        "one epoch",
        "N",
        sorted({*_EPOCH_ROWS, *sizes.rows}),
        f"T {_EPOCH_T}, B {_EPOCH_B}, F {_F}, d{small.d_model} h{small.nhead} "
        f"L{small.num_layers} f{small.ffn_hidden}, {device.type}",
        lambda rows: _sides(rows, _EPOCH_T, _EPOCH_B, _F, small, device, steps=None),
        _same_losses,
        lambda rows: rows * _F * 4 * 2,
    )


def _sides(
    rows: int,
    window: int,
    batch: int,
    features: int,
    model: ModelConfig,
    device: torch.device,
    *,
    steps: int | None,
) -> dict[str, Call]:
    """Calls that take so many optimizer steps, or one epoch, and return the mean loss so far."""
    X = table(rows, features)
    y = (np.random.default_rng(2).random(rows) > 0.5).astype(np.float32)
    config = load_config("report").train.model_copy(update={"batch_size": batch, "epochs": 10**9})
    torch.manual_seed(config.seed)
    written = TFATransformer(features, model).to(device)
    ours = WindowEncoder(features, model).to(device)
    ours.load_state_dict(written.state_dict())
    windows = SeqWindows(X, y[:, None], window, window - 1, rows - 1, batch)
    as_written = train_steps_as_written(written, windows, config, device)
    loader = WindowLoader(X, y, window=window, batch_size=batch, device=device)
    trainer = Trainer(ours, loader, config, device)
    own_steps = trainer.steps()
    count = trainer.steps_per_epoch if steps is None else steps

    def before() -> float:
        with open(os.devnull, "w", encoding="utf-8") as log, redirect_stdout(log):
            for _ in range(count):
                loss = next(as_written)
        return loss

    def after() -> float | Tensor:
        trainer.until = trainer.done + count
        while trainer.done < trainer.until:
            next(own_steps)
        # Nothing reads the loss of each step.
        return trainer.step.mean_loss() if steps is None else trainer.step.loss

    return {"before": before, "after": after}


def _same_losses(calls: Mapping[str, Call]) -> None:
    before, after = (float(calls[side]()) for side in ("before", "after"))  # type: ignore[arg-type]
    if not abs(before - after) <= _LOSS_TOLERANCE:
        raise OutputsDiffer(f"losses are {before:.4f} and {after:.4f}")
