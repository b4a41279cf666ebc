"""Optimizer steps over a loader, eager, compiled or captured in a CUDA graph, used alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tfa_perf.train.allocator import keep_freed_memory
from tfa_perf.train.bce import BinaryCrossEntropy
from tfa_perf.train.optimizer import set_lr
from tfa_perf.train.ranks import ALONE, Ranks

__all__ = ["CPU_MICRO_BATCH", "Criterion", "Rates", "TrainStep", "make_step"]

CPU_MICRO_BATCH = 512

Criterion = Callable[[Tensor, Tensor], Tensor]
Rates = Callable[[], Sequence[float]]

T = TypeVar("T")


def make_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Iterable[Any],
    *,
    criterion: Criterion | None = None,
    clip_norm: float | None = None,
    accumulation: int = 1,
    micro_batch: int | None = None,
    bf16: bool = False,
    compile: bool = False,
    graph: bool = False,
    graph_steps: int = 1,
    rates: Rates | None = None,
    ranks: Ranks = ALONE,
) -> TrainStep:
    """Optimizer steps of ``model`` over the batches ``(x, y)`` of ``loader``.

    The gradient of a step is that of the mean loss over all windows of its batches, however
    they are cut. A step on a CPU has the process keep freed memory, see `keep_freed_memory`. All
    kinds of step are used alike::

        step = make_step(model, optimizer, loader, graph=True)
        for epoch in range(epochs):
            loader.set_epoch(epoch)
            for windows in step.epoch():  # after every optimizer step
                set_lr(optimizer, schedule(...))
            print(step.mean_loss())

    Parameters
    ----------
    model : maps x [b, ...] to logits [b, 1]; it stays on its device.
    optimizer : steps once for every ``accumulation`` batches; a graph needs a capturable Adam or
        AdamW, as ``make_optimizer`` makes.
    loader : yields x [b, ...] and y [b, 1], at best on the model's device.
    criterion : losses [b, 1] of logits and labels, both [b, 1], the logits float32; default
        binary cross entropy.
    clip_norm : largest norm of the whole gradient.
    accumulation : batches in an optimizer step; the last step of a pass may have fewer.
    micro_batch : windows in one forward and backward; default 512 on a CPU, where activations
        then stay in cache, and the whole batch elsewhere.
    bf16 : run the model under bfloat16 autocast. Where a captured step gathers windows by itself, a
        model that has ``rounds_input``, as WindowEncoder, is given x in bfloat16 already.
    compile : run forward and backward through ``torch.compile``, once for the size of a whole
        (micro-)batch; a smaller last one runs uncompiled.
    graph : replay one CUDA graph a step; see `GraphStep`.
    graph_steps : optimizer steps in one graph, from a WindowLoader that keeps its table on the
        device; ``epoch`` then yields after so many, which ``taken`` says. The last of a pass that
        are fewer come one by one, as do all steps of another kind or from another loader.
    rates : learning rates of the steps to come, in order, asked for whenever steps are taken: one
        at least, and ``graph_steps`` where so many may be taken at once. The optimizer's own rate
        then means nothing. Without it all steps that are taken at once have the optimizer's.
    ranks : processes that each take their share of every batch, from a WindowLoader. Gradients are
        summed over them once a step, so the gradient is that of one process with all windows, and
        ``loss`` and windows are those of all. ``model`` starts alike on all, without torch's
        DistributedDataParallel around it.

    Raises
    ------
    ValueError, TypeError : an argument does not fit; the message names it.
    """
    counts: dict[str, Any] = {"accumulation": accumulation, "graph_steps": graph_steps}
    if micro_batch is not None:
        counts["micro_batch"] = micro_batch
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: a whole number from 1 is needed, got {value!r}")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm: a positive number or None is needed, got {clip_norm!r}")
    kind: Callable[..., TrainStep] = TrainStep
    if graph:
        from tfa_perf.train.graph import GraphStep

        kind = partial(GraphStep, graph_steps=graph_steps)
    return kind(
        model,
        optimizer,
        loader,
        criterion=criterion or BinaryCrossEntropy(),
        clip_norm=clip_norm,
        accumulation=accumulation,
        micro_batch=micro_batch,
        bf16=bf16,
        compile=compile,
        rates=rates,
        ranks=ranks,
    )


class TrainStep:
    """Eager steps; see `make_step`, which makes them and says what the arguments are."""

    taken = 1
    """Optimizer steps between the latest two yields of ``epoch``."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loader: Iterable[Any],
        *,
        criterion: Criterion,
        clip_norm: float | None,
        accumulation: int,
        micro_batch: int | None,
        bf16: bool,
        compile: bool,
        rates: Rates | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.optimizer, self.loader = model, optimizer, loader
        self.accumulation = accumulation
        self._rates, self._ranks = rates, ranks
        if ranks.several and getattr(loader, "world_size", 1) != ranks.world_size:
            raise ValueError(
                f"loader: must share its windows among the {ranks.world_size} processes; use a "
                "WindowLoader with their rank and world_size"
            )
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        if not self._parameters:
            raise ValueError("model: has no parameter that requires a gradient")
        self.device = self._parameters[0].device
        on_cpu = self.device.type == "cpu"
        if on_cpu:
            keep_freed_memory()
        self._micro_batch = micro_batch or (CPU_MICRO_BATCH if on_cpu else None)
        self._criterion, self._clip_norm, self._bf16 = criterion, clip_norm, bf16
        self._compiled = torch.compile(self._weighted_loss, dynamic=False) if compile else None
        self._compiled_size = 0
        self._loss = torch.zeros((), device=self.device)
        self._loss_sum = torch.zeros((), device=self.device)
        self._windows = 0

    @property
    def loss(self) -> Tensor:
        """Mean loss over the windows of the latest yield, a tensor of its own on the device."""
        return self._loss.clone()

    def mean_loss(self) -> float:
        """Mean loss over the windows of all steps since the last call; waits for the device.

        Raises RuntimeError where there were none.
        """
        if not self._windows:
            raise RuntimeError("mean_loss: there was no step since the last call")
        mean = self._loss_sum.item() / self._windows
        self._loss_sum.zero_()
        self._windows = 0
        return mean

    def losses(self) -> dict[str, Any]:
        """What ``mean_loss`` will be computed from, for `load_losses`; waits for the device."""
        return {"sum": self._loss_sum.item(), "windows": self._windows}

    def load_losses(self, state: dict[str, Any]) -> None:
        self._loss_sum.fill_(state["sum"])
        self._windows = state["windows"]

    def epoch(self, skip: int = 0) -> Iterator[int]:
        """One pass over the loader; yields the number of windows after each optimizer step.

        Where ``graph_steps`` are taken at once, it yields after them all. The first ``skip``
        batches are taken and left. Nothing in a step waits for the device where the loader does
        not.
        """
        for group, of_all in self._groups(self.loader, skip):
            if (rates := self._rates_to_come()) is not None:
                set_lr(self.optimizer, rates[0])
            batches = [self._on_device(batch) for batch in group]
            windows = of_all or sum(len(x) for x, _ in batches)
            self.optimizer.zero_grad(set_to_none=True)
            largest = max((len(x) for x, _ in batches), default=0)
            weight = torch.full((largest, 1), 1 / windows, device=self.device)
            self._step((x, y, weight[: len(x)]) for x, y in batches)
            self._loss_sum.add_(self._loss, alpha=windows)
            self._windows += windows
            yield windows

    def _rates_to_come(self) -> Sequence[float] | None:
        if self._rates is None:
            return None
        rates = self._rates()
        if not len(rates):
            raise ValueError("rates: the rate of the step to come is needed, it returned none")
        return rates

    def _groups(self, source: Iterable[T], skip: int) -> Iterator[tuple[list[T], int | None]]:
        """Batches of each step to come, and with several ranks the windows of all of them."""
        if not self._ranks.several:
            for group in grouped(islice(source, skip, None), self.accumulation):
                yield group, None
            return
        sizes = islice(self.loader.step_windows(), skip, None)  # type: ignore[attr-defined]
        batches = islice(source, skip, None)
        for some in grouped(sizes, self.accumulation):
            # The last one may be missing here; asking for it tells the loader that the pass ended.
            group = list(islice(batches, len(some)))
            yield group, sum(of_all for _, of_all in some)

    def _on_device(self, batch: Any) -> tuple[Tensor, Tensor]:
        x, y = batch
        return x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)

    def _step(self, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Forward, backward, clip and update for batches (x, y, weights of the windows)."""
        total: Tensor | None = None
        for batch in batches:
            size = self._micro_batch or len(batch[0])
            for x, y, weight in zip(*(part.split(size) for part in batch), strict=True):
                loss = self._forward(x)(x, y, weight)
                loss.backward()
                loss = loss.detach()
                total = self._loss.copy_(loss) if total is None else total.add_(loss)
        if total is None:
            self._loss.zero_()
        self._ranks.sum_gradients(self._parameters, self._loss)
        self._update()

    def _update(self) -> None:
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        self.optimizer.step()

    def _forward(self, x: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        if self._compiled is None:
            return self._weighted_loss
        self._compiled_size = self._compiled_size or len(x)
        return self._compiled if len(x) == self._compiled_size else self._weighted_loss

    def _weighted_loss(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            logits = self.model(x).float()
        if isinstance(self._criterion, BinaryCrossEntropy):
            return self._criterion.weighted_sum(logits, y, weight)
        return (self._criterion(logits, y) * weight).sum()


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """``items`` in lists of ``size``; the last one may be shorter."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
