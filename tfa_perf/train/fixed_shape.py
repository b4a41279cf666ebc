"""Steps of one size that read from fixed addresses: what a CUDA graph captures, run without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from tfa_perf.config import ConfigError
from tfa_perf.train.feed import BatchFeed, Feed, Group, RowFeed, resident
from tfa_perf.train.step import TrainStep

__all__ = ["FixedShapeStep"]


class FixedShapeStep(TrainStep):
    """Steps with fewer windows are padded; padding has weight 0 in the loss.

    Where the loader keeps its table on the device, ``graph_steps`` steps are sent and taken at
    once, as long as a pass and the learning rates have so many.

    With several ranks, raises ConfigError where the last step of a pass leaves one without a
    window.
    """

    def __init__(self, *args: Any, graph_steps: int = 1, **options: Any) -> None:
        super().__init__(*args, **options)
        if self._ranks.several:
            self._check_last_step()
        rounds = self._bf16 and getattr(self.model, "rounds_input", False)
        self._resident = resident(self.loader, torch.bfloat16 if rounds else None)
        self._most = 1 if self._resident is None else graph_steps
        self._feed: Feed | None = None
        # Each step of a graph writes its own: the last would replace the others.
        self._step_losses = torch.zeros(self._most, device=self.device)
        self._mixing = next(
            (m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)),
            None,
        )

    @property
    def loss(self) -> Tensor:
        if self.taken == 1 or self._feed is None:
            return self._step_losses[0].clone()
        windows = self._feed.windows[: self.taken]
        return (self._step_losses[: self.taken] * windows).sum() / windows.sum()

    def epoch(self, skip: int = 0) -> Iterator[int]:
        """As for eager steps; the very first ones take longer, because they prepare the others.

        Raises ValueError where a step must be padded and the model has batch normalisation,
        through which padding would change the other windows.
        """
        # Before the pass begins: the loader tells what is left of the one that comes next.
        left = self._steps_left(skip)
        source = self.loader if self._resident is None else self._resident.row_batches()
        groups = self._groups(source, skip)
        for first in groups:
            rates = self._rates_to_come()
            allowed = left if rates is None else min(left, len(rates))
            # No batch is asked for that is not trained on: the loader's place is that of the run.
            steps = [first, *islice(groups, (self._most if allowed >= self._most else 1) - 1)]
            left -= len(steps)
            own = self._fill(steps, rates)
            self._execute(len(steps))
            self.taken = len(steps)
            windows = sum(of_all or n for n, (_, of_all) in zip(own, steps, strict=True))
            self._windows += windows
            yield windows

    def _steps_left(self, skip: int) -> int:
        if self._most == 1:
            return 0
        sizes = self.loader.step_windows()  # type: ignore[attr-defined]
        return -(-sum(1 for _ in islice(sizes, skip, None)) // self.accumulation)

    def _fill(self, steps: Sequence[Group], rates: Sequence[float] | None) -> list[int]:
        if self._feed is None or not all(self._feed.fits(group) for group, _ in steps):
            self._feed = self._feed_for(steps[0][0])
            self._changed("sizes")
        own = self._feed.fill(steps, rates)
        if min(own) < self._feed.capacity and self._mixing is not None:
            raise ValueError(
                f"model: {type(self._mixing).__name__} mixes the windows of a batch, and a "
                f"step of {self._feed.capacity} windows would be padded, as only {min(own)} "
                "are left; use drop_last=True in the loader, or graph=False"
            )
        return own

    def _feed_for(self, group: Sequence[Any]) -> Feed:
        if self._resident is None:
            example, *_ = (self._checked(batch) for batch in group)
            size = self._batch_size(len(example[0]))
            return BatchFeed(example, size, self.accumulation, self.device)
        size = self._batch_size(len(group[0]))
        return RowFeed(self._resident, size, self.accumulation, self.device, self._most)

    def _batch_size(self, first: int) -> int:
        # Captures exchange gradients: ranks must not differ in whether a group fits, and their
        # first batches may differ by a window.
        return self.loader.batch_size if self._ranks.several else first  # type: ignore[attr-defined]

    def _check_last_step(self) -> None:
        world_size = self._ranks.world_size
        sizes = [of_all for _, of_all in self.loader.step_windows()]  # type: ignore[attr-defined]
        if sizes and sizes[-1] < world_size:
            raise ConfigError(
                f"graph: the last step of a pass has {sizes[-1]} windows for {world_size} "
                "processes, but a captured step needs one for each; use another batch size, or "
                "graph=False (--no-graph)"
            )

    @staticmethod
    def _checked(batch: Any) -> Any:
        if len(batch) != 2:
            raise ValueError(
                f"loader: batches (x, y) are needed, got {len(batch)} parts; "
                "leave out what the model does not take"
            )
        return batch

    def _changed(self, what: str) -> None:
        """Called when what a capture relies on is no longer so."""

    def _execute(self, steps: int) -> None:
        self._body(steps)

    def _body(self, steps: int) -> None:
        assert self._feed is not None
        for i in range(steps):
            # Gradients made inside a graph's own memory are written, not added to, at each replay.
            self.optimizer.zero_grad(set_to_none=True)
            self._loss = self._step_losses[i]
            with self._rate_of(i):
                self._step(self._feed.batches(i))
            self._loss_sum.addcmul_(self._loss, self._feed.windows[i])

    @contextmanager
    def _rate_of(self, step: int) -> Iterator[None]:
        """The optimizer reads the rate of ``step`` from where the feed has it."""
        if self._rates is None:
            yield
            return
        assert self._feed is not None
        groups = self.optimizer.param_groups
        own = [group["lr"] for group in groups]
        try:
            for group in groups:
                group["lr"] = self._feed.rates[step]
            yield
        finally:
            for group, lr in zip(groups, own, strict=True):
                group["lr"] = lr
