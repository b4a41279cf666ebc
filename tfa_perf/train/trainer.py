"""Model, optimizer and loader of a run, its steps, and what a checkpoint must hold of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tfa_perf.config import TrainConfig
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.bf16 import use_bf16
from tfa_perf.train.checkpoint import CheckpointError
from tfa_perf.train.optimizer import make_optimizer
from tfa_perf.train.ranks import ALONE, Ranks
from tfa_perf.train.schedule import learning_rate
from tfa_perf.train.step import Criterion, make_step

__all__ = ["Step", "Trainer"]


@dataclass(frozen=True)
class Step:
    """``steps`` optimizer steps: their epoch (from 0), how many windows they saw, and the loss.

    It is one step, or as many as were taken at once by ``config.graph_steps``. With several ranks
    windows and loss are those of all of them. ``loss`` is the mean over the windows as a
    tensor on the model's device: reading it makes the host wait for the device, so read it as
    rarely as you need it.
    """

    epoch: int
    windows: int
    loss: Tensor
    steps: int = 1


class Trainer:
    """Fits ``model`` (logits for a binary label) for ``config.epochs`` passes over ``loader``.

    ``model`` is on ``device`` already. ``state_dict`` between any two yields of ``steps``, loaded
    into a trainer made alike, continues the run: on a CPU bit for bit.

    With ``ranks`` (``Ranks.of_torch()``) each process of a torch.distributed run makes a trainer;
    ``loader`` yields its share, which is what a WindowLoader does there by itself, and ``model``
    starts everywhere as it is on rank 0. Steps are those of one process with all windows, up to
    the order of sums, for any number of processes. Dropout differs from rank to rank where their
    random numbers do. All ranks call ``state_dict`` together, and load the same state.

    Raises ValueError for ``amp="probe"`` on a CPU, where ``probed(config, ...)`` is needed, and
    for a loader that shares its windows among other ranks than these.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: WindowLoader,
        config: TrainConfig,
        device: torch.device | str,
        *,
        criterion: Criterion | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        shares = getattr(loader, "world_size", 1)
        if shares != ranks.world_size:
            raise ValueError(
                f"loader: yields one of {shares} shares of the windows, for {ranks.world_size} "
                "ranks; pass ranks=Ranks.of_torch(), or rank=0, world_size=1 to the loader"
            )
        self.model, self.loader, self.config = model, loader, config
        self.device, self.ranks = torch.device(device), ranks
        ranks.share_start(model)
        self.optimizer = make_optimizer(model, lr=config.lr, weight_decay=config.weight_decay)
        self.step = make_step(
            model,
            self.optimizer,
            loader,
            criterion=criterion,
            clip_norm=config.clip_norm,
            accumulation=config.accumulation,
            micro_batch=config.micro_batch,
            bf16=use_bf16(config, self.device),
            compile=config.compile,
            graph=self.device.type == "cuda" if config.graph is None else config.graph,
            graph_steps=config.graph_steps,
            rates=self._rates_to_come,
            ranks=ranks,
        )
        batches = loader.steps if ranks.several else len(loader)
        self.steps_per_epoch = -(-batches // config.accumulation)
        self.total = self.steps_per_epoch * config.epochs
        self.done = 0
        self.until: int | None = None
        """Optimizer steps of the run after which ``steps`` ends; it may be moved between two."""
        self._epoch = self._taken = 0

    def steps(self, until: int | None = None) -> Iterator[Step]:
        """Yield after every optimizer step, from where the run is to its end.

        Where ``config.graph_steps`` are taken at once, it yields after them all; but never are the
        ends of an epoch, of ``config.checkpoint_every`` steps, or of the ``until`` steps of the run
        after which this ends, among them. The caller decides what to log, when to stop and what to
        time; nothing in here makes the host wait for the device.
        """
        self.until = until
        return self._steps()

    def _steps(self) -> Iterator[Step]:
        self.model.train()
        while self._epoch < self.config.epochs and not self._ended():
            self.loader.set_epoch(self._epoch)
            skip = 0
            if not hasattr(self.loader, "load_state_dict"):
                skip = self._taken
            elif self._taken:
                # A pass that was left begins where it was, not anew.
                self.loader.load_state_dict(self.loader.state_dict())
            for windows in self.step.epoch(skip):
                self.done += self.step.taken
                self._taken += self.step.taken * self.config.accumulation
                yield Step(self._epoch, windows, self.step.loss, self.step.taken)
                if self._ended():
                    return
            self._epoch += 1
            self._taken = 0

    def state_dict(self) -> dict[str, Any]:
        """All that the steps to come depend on; tensors are those in use, not copies."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": self.ranks.gathered(random),
            "losses": self.step.losses(),
            "done": self.done,
            "epoch": self._epoch,
            "taken": self._taken,
            "loader": self.loader.state_dict() if hasattr(self.loader, "state_dict") else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken, on this trainer's own device.

        The number of ranks may differ; each takes the random numbers of its own rank, and a rank
        that the state does not know starts new ones.

        Raises CheckpointError where the state is that of another model, and leaves the run as
        it was.
        """
        own = self.model.state_dict()
        for name in sorted(own.keys() | state["model"].keys()):
            shapes = [tuple(d[name].shape) if name in d else None for d in (own, state["model"])]
            if shapes[0] != shapes[1]:
                raise CheckpointError(
                    f"model: {name} is {shapes[1]} in the checkpoint and {shapes[0]} here; "
                    "resume with the config of the run"
                )
        self.model.load_state_dict(state["model"])
        self._load_optimizer(state["optimizer"])
        self.step.load_losses(state["losses"])
        self.done, self._epoch, self._taken = state["done"], state["epoch"], state["taken"]
        if state["loader"] is not None and hasattr(self.loader, "load_state_dict"):
            self.loader.load_state_dict(state["loader"])
        self._load_random(state["random"])

    def _load_random(self, states: list[dict[str, Tensor]]) -> None:
        rank = self.ranks.rank
        random = states[rank] if rank < len(states) else states[0]
        torch.set_rng_state(random["cpu"])
        if self.device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self.device)
        if rank >= len(states):
            torch.manual_seed(int(torch.randint(2**62, ())) + rank)

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        # The moments are the run's; how they are updated is this device's own matter, and the
        # rate follows from the number of steps.
        own = self.optimizer.param_groups
        groups = [
            {**saved, **{k: group[k] for k in ("lr", "fused", "capturable", "foreach")}}
            for saved, group in zip(state["param_groups"], own, strict=True)
        ]
        self.optimizer.load_state_dict({"state": state["state"], "param_groups": groups})

    def _ended(self) -> bool:
        return self.until is not None and self.done >= self.until

    def _rates_to_come(self) -> list[float]:
        """Learning rates of the steps that may be taken at once from here."""
        end = self.done + self.config.graph_steps
        if self.until is not None:
            end = min(end, self.until)
        if (every := self.config.checkpoint_every) is not None:
            end = min(end, self.done - self.done % every + every)
        return [learning_rate(n, self.total, self.config) for n in range(self.done, end)]
