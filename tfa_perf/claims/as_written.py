"""The report's training step in its parts, so that each can be timed, changed or left out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from tfa_perf.baseline.model import TFATransformer
from tfa_perf.claims.workload import Workload
from tfa_perf.config import ModelConfig

__all__ = ["COMPUTE", "DATA", "MEMORY", "OTHER", "PARTS", "StepAsWritten", "written_step"]

DATA, COMPUTE, MEMORY, OTHER = "share-data", "share-compute", "share-memory", "share-other"
PARTS = (DATA, COMPUTE, MEMORY, OTHER)


class StepAsWritten:
    """One optimizer step of the report's loop a call; returns the mean loss so far.

    Statement for statement the loop of ``baseline.loop``, the same losses included.

    Parameters
    ----------
    batches : endless host batches.
    without : parts whose stored result is used instead.
    accumulate : batches in an optimizer step.
    log_every : steps between two reads of the loss; a print goes with each. None as the report
        has it: a read every step, a print every 1 % of ``total_batches``.
    bf16 : forward under bfloat16 autocast.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterator[tuple[Tensor, Tensor]],
        device: torch.device,
        total_batches: int,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        without: str | None = None,
        accumulate: int = 1,
        log_every: int | None = None,
        bf16: bool = False,
    ) -> None:
        self.model, self._batches, self._device = model.train(), batches, device
        self._total, self._without = total_batches, without
        self._accumulate, self._log_every, self._bf16 = accumulate, log_every, bf16
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
        self._criterion = nn.BCEWithLogitsLoss()
        # Open for as long as the step lives, as a program's standard output is.
        self._log = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        self._sum, self._steps = 0.0, 0
        self._device_sum = torch.zeros((), device=device)
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._last = 0.0
        if without is not None:
            bx, by = next(batches)
            self._host = bx.clone(), by.clone()
            self._on_device = bx.clone().to(device), by.clone().to(device)
            self._loss = self._forward_backward(*self._on_device)
            self._gradients = [p.grad for p in model.parameters()]

    def __call__(self) -> float:
        for part in range(self._accumulate):
            bx, by = self._host if self._without == DATA else next(self._batches)
            if self._without == MEMORY:
                bx, by = (bx, by) if self._device.type == "cpu" else self._on_device
            else:
                bx, by = bx.to(self._device), by.to(self._device)
                if part == 0:
                    self.optimizer.zero_grad(set_to_none=True)
            loss = self._compute(bx, by, last=part == self._accumulate - 1)
        if self._without != OTHER:
            self._update(loss)
        return self._sum / max(self._steps, 1)

    def timed(self) -> dict[str, float]:
        """One step, the device waited for after each part; seconds of each."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._wait()
        self._last = time.perf_counter()
        bx, by = next(self._batches)
        self._lap(DATA)
        bx, by = bx.to(self._device), by.to(self._device)
        self.optimizer.zero_grad(set_to_none=True)
        self._lap(MEMORY)
        loss = self._compute(bx, by)
        self._lap(COMPUTE)
        self._update(loss)
        self._lap(OTHER)
        return self.seconds

    def _lap(self, part: str) -> None:
        self._wait()
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _compute(self, bx: Tensor, by: Tensor, *, last: bool = True) -> Tensor:
        if self._without == COMPUTE:
            for parameter, gradient in zip(self.model.parameters(), self._gradients, strict=True):
                parameter.grad = gradient
            return self._loss
        return self._forward_backward(bx, by, last=last)

    def _forward_backward(self, bx: Tensor, by: Tensor, *, last: bool = True) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else nullcontext():
            logits = self.model(bx)
        loss: Tensor = self._criterion(logits.float(), by)
        (loss if self._accumulate == 1 else loss / self._accumulate).backward()
        if last:
            nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=1.0)
        return loss.detach()

    def _update(self, loss: Tensor) -> None:
        self.optimizer.step()
        self._steps += 1
        if self._log_every is None:
            self._sum += loss.item()
            due = self._steps % max(1, self._total // 100) == 0
        else:
            self._device_sum.add_(loss)
            due = self._steps % self._log_every == 0
            if due:
                self._sum = self._device_sum.item()
        if due:
            progress = self._steps / self._total * 100
            text = f"[TFA] Epoch 1/25 - {progress:.1f}% - Loss: {self._sum / self._steps:.6f}"
            print(text, file=self._log)

    def close(self) -> None:
        self._log.close()


def written_step(
    work: Workload,
    *,
    window: int | None = None,
    batch: int | None = None,
    model: ModelConfig | None = None,
    without: str | None = None,
    accumulate: int = 1,
    log_every: int | None = None,
    bf16: bool = False,
) -> StepAsWritten:
    """The report's step on ``work``; what is not given is as in its config."""
    window = window or work.report.data.window
    batch = work.fitting(batch or work.sizes.batch)
    torch.manual_seed(work.report.train.seed)
    net = TFATransformer(work.features, model or work.report.model).to(work.device)
    return StepAsWritten(
        net,
        work.batches_as_written(window, batch),
        work.device,
        len(work.train_ends) // batch,
        without=without,
        accumulate=accumulate,
        log_every=log_every,
        bf16=bf16,
    )
