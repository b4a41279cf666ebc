"""What either training loop costs beside fetching batches and computing gradients."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterator
from contextlib import redirect_stdout
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from tfa_perf.baseline.loop import train_steps as train_steps_as_written
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.claims.finding import Finding, found, invalid
from tfa_perf.claims.workload import Workload
from tfa_perf.train.optimizer import make_optimizer
from tfa_perf.train.progress import StepProgress
from tfa_perf.train.step import make_step

__all__ = ["StoredGradients", "measure_loop"]

_T, _STEPS, _NORM = 48, 100, 10.0


class _Stored(torch.autograd.Function):
    """Logits of zero, whose gradient is what was stored."""

    @staticmethod
    def forward(ctx: Any, rows: int, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return parameters[0].new_zeros((rows, 1))

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Any:
        return (None, None, *ctx.gradients)


class StoredGradients(nn.Module):
    """A model's parameters, and gradients that no forward or backward pass computes.

    Their norm is ``10``, so that clipping to 1 gives the same gradient for any number of
    micro-batches.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        gradients = [torch.randn_like(p) for p in model.parameters()]
        norm = float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients])))
        self._gradients = [g * (_NORM / norm) for g in gradients]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = _Stored.apply(len(x), self._gradients, *self.model.parameters())
        return logits


class _OneBatch(SeqWindows):
    """The same batch, fetched at no cost, as often as an epoch of the report has batches."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batch = next(super().__iter__())
        for _ in range(-(-(self.end - self.start + 1) // self.batch)):
            yield batch


def measure_loop(work: Workload, wanted: Collection[str]) -> Iterator[Finding]:
    """The report's loop and ours, eager, on stored batches and stored gradients."""
    if "loop" not in wanted:
        return
    batch = work.fitting(work.sizes.report_batch)
    variant = "our eager step with fused AdamW, loss read every 50 steps"
    workload = work.describe(_T, batch)
    written, ours = (_Loop(work, batch, ours=side) for side in (False, True))
    try:
        for _ in range(3):
            written()
            ours()
        pairs = zip(written.model.parameters(), ours.model.parameters(), strict=True)
        worst = max((a - b).abs().max().item() for a, b in pairs)
        if not worst <= 1e-5:
            yield invalid("loop", variant, workload, f"parameters differ by {worst:.2g}")
            return
        result = work.versus(written, ours)
    finally:
        written.close()
        ours.close()
    yield found("loop", variant, workload, "parameters equal within 1e-5", result)


class _Loop:
    """One step of either loop a call."""

    def __init__(self, work: Workload, batch: int, *, ours: bool) -> None:
        torch.manual_seed(work.report.train.seed)
        self.model = StoredGradients(TFATransformer(work.features, work.report.model))
        self.model.to(work.device)
        self.model._gradients = [g.to(work.device) for g in self.model._gradients]
        train = work.report.train.model_copy(update={"epochs": 10**6})
        self._log = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if ours:
            self._steps = self._ours(work, batch)
        else:
            windows = work.windows_as_written(_T, batch)
            windows = _OneBatch(
                windows.X, windows.y, _T, windows.start, windows.start + _STEPS * batch - 1, batch
            )
            self._steps = self._as_written(
                train_steps_as_written(self.model, windows, train, work.device)
            )

    def __call__(self) -> None:
        next(self._steps)

    def close(self) -> None:
        self._log.close()

    def _as_written(self, steps: Iterator[float]) -> Iterator[None]:
        while True:
            with redirect_stdout(self._log):
                next(steps)
            yield

    def _ours(self, work: Workload, batch: int) -> Iterator[None]:
        config = work.report.train
        stored = [work.batch_on_device(_T, batch)] * _STEPS
        optimizer = make_optimizer(self.model, lr=config.lr, weight_decay=config.weight_decay)
        step = make_step(self.model, optimizer, stored, clip_norm=config.clip_norm)
        console = Console(file=io.StringIO())
        with StepProgress(10**9, log_every=config.log_every, console=console) as progress:
            while True:
                for windows in step.epoch():
                    progress.step(epoch=0, windows=windows, loss=step.loss)
                    yield
