"""A progress bar that reads the loss rarely, because every read waits for the device."""

from __future__ import annotations

import time
from types import TracebackType

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

__all__ = ["StepProgress"]

# An update of the bar costs more than a short step; the eye does not see more than this.
_DRAW_EVERY_S = 0.1
# Losses that are summed in one go: each operation on a tensor costs as much as the rest of a step
# here, and on a device a launch.
_SUMMED_TOGETHER = 64


class StepProgress:
    """Progress over optimizer steps, with the mean loss since the last reset.

    The losses are summed on their own device, many at a time; ``mean_loss`` is what reads the
    sum, and the bar calls it every ``log_every`` steps.
    """

    def __init__(self, total: int, *, log_every: int, console: Console) -> None:
        self._total, self._log_every = total, log_every
        self._done, self._windows = 0, 0
        self._next_draw_s, self._loss_text = 0.0, "-"
        self._loss_sum: Tensor | None = None
        self._unsummed: list[Tensor] = []
        self._unsummed_windows = 0
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            # Elsewhere it would leave a blank line and nothing else.
            disable=not (console.is_interactive or console.is_jupyter),
            # Nothing in it moves between two steps, so no thread draws it.
            auto_refresh=False,
        )
        self._bar = self._progress.add_task("steps", total=total, epoch=1, loss="-")

    def __enter__(self) -> StepProgress:
        self._progress.start()
        self._next_draw_s = time.monotonic() + _DRAW_EVERY_S
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def step(self, *, epoch: int, windows: int, loss: Tensor, steps: int = 1) -> None:
        """Count ``steps`` steps of ``epoch`` (from 0) with mean ``loss`` over their windows.

        ``loss`` is kept for a while: a tensor that nothing writes to any more, without a graph.
        """
        if windows != self._unsummed_windows or len(self._unsummed) == _SUMMED_TOGETHER:
            self._sum()
            self._unsummed_windows = windows
        self._unsummed.append(loss)
        self._windows += windows
        due = self._done // self._log_every + 1
        self._done += steps
        if self._done >= due * self._log_every:
            self._loss_text = f"{self.mean_loss():.5f}"
        now = time.monotonic()
        drawn = now >= self._next_draw_s
        # The last state is drawn when the bar stops.
        if drawn or self._done == self._total:
            self._next_draw_s = now + _DRAW_EVERY_S
            self._progress.update(
                self._bar,
                refresh=drawn,
                completed=self._done,
                epoch=epoch + 1,
                loss=self._loss_text,
            )

    def mean_loss(self) -> float:
        """Mean loss over the windows since the last reset; waits for the device."""
        self._sum()
        if self._loss_sum is None:
            raise RuntimeError("mean_loss: no step has been counted since the last reset")
        return self._loss_sum.item() / self._windows

    def reset(self) -> None:
        """Forget the losses counted so far."""
        self._loss_sum, self._windows = None, 0
        self._unsummed.clear()

    def _sum(self) -> None:
        """Add the losses of steps with equally many windows to the sum."""
        if not self._unsummed:
            return
        some = torch.stack(self._unsummed).sum()
        self._unsummed.clear()
        if self._loss_sum is None:
            self._loss_sum = torch.zeros_like(some)
        self._loss_sum.add_(some, alpha=self._unsummed_windows)

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, highlight=False, soft_wrap=True)
