"""Processes that fit one model together, each on its share of the windows of every step."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

__all__ = ["ALONE", "Ranks", "local_rank", "torchrun_ranks"]

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process, number ``rank`` of ``world_size``, and what it exchanges with the others.

    Every method is called by all of them, in the same order; alone they cost nothing.
    """

    rank: int = 0
    world_size: int = 1
    control: Any = None
    """Process group for what is not on the device; None is torch's default group."""

    @staticmethod
    def of_torch() -> Ranks:
        """Those of torch.distributed's default process group; alone where there is none.

        Beside NCCL this makes a gloo group: what does not belong into a step then never waits
        for the device, nor for what a CUDA graph has captured.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            return ALONE
        world_size = distributed.get_world_size()
        if world_size == 1:
            return ALONE
        nccl = distributed.get_backend() != "gloo"
        control = distributed.new_group(backend="gloo") if nccl else None
        return Ranks(distributed.get_rank(), world_size, control)

    @property
    def several(self) -> bool:
        return self.world_size > 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> None:
        """Replace gradients and ``loss`` by their sums over the ranks, in one all-reduce.

        A rank without a window in this step has no gradients: they count as 0. A parameter that
        no window reaches on any rank gets a gradient of 0 too.
        """
        if not self.several:
            return
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(part.reshape(-1) for part in parts), loss.reshape(1)])
        distributed.all_reduce(flat)
        *sums, total = flat.split([*(part.numel() for part in parts), 1])
        for parameter, part in zip(parameters, sums, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
        loss.copy_(total[0])

    def share_start(self, model: nn.Module) -> None:
        """Give parameters and buffers of ``model`` the values that they have on rank 0."""
        if self.several:
            with torch.no_grad():
                for tensor in (*model.parameters(), *model.buffers()):
                    distributed.broadcast(tensor.detach(), 0)

    def gathered(self, value: T) -> list[T]:
        """The ``value`` of every rank, in their order; tensors are best on the CPU."""
        if not self.several:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value, group=self.control)
        return values

    def from_first(self, make: Callable[[], T]) -> T:
        """What ``make`` returns on rank 0, where alone it is called."""
        if not self.several:
            return make()
        values: list[Any] = [make() if self.first else None]
        distributed.broadcast_object_list(values, 0, group=self.control)
        return values[0]


ALONE = Ranks()


def local_rank() -> int | None:
    """Number of this process on its host, as torchrun gives it; None for a process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def torchrun_ranks(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun started, joined by NCCL on CUDA devices and by gloo on CPUs.

    ``device`` is that of this process alone. A process that torchrun did not start is alone.
    Where the block raises, the others are not waited for: let the process end.
    """
    if local_rank() is None:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", device_id=device)
    else:
        distributed.init_process_group("gloo")
    yield Ranks.of_torch()
    # NCCL waits for the graphs that captured it, which may be parts of reference cycles.
    gc.collect()
    distributed.destroy_process_group()
