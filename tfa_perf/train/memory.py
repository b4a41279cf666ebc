"""What to do when a device's memory does not hold a step: settings that were tried and do."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from tfa_perf.config import Config, TrainConfig
from tfa_perf.data.dataset import Dataset
from tfa_perf.train.loop import evaluate
from tfa_perf.train.setup import set_up

__all__ = ["DeviceMemoryError", "advice", "candidates", "first_fitting", "out_of_memory"]

T = TypeVar("T")

# Below it a step is mostly overhead, and a captured one has very many kernels.
_SMALLEST = 16
# The first step makes the optimizer's state; the others have it beside the activations.
_STEPS = 3
# Part of the memory that was in use when it ran out; a trial leaves it free.
_MARGIN = 0.05


class DeviceMemoryError(RuntimeError):
    """A run that does not fit into the device's memory; the message names settings that do."""


def out_of_memory(error: BaseException) -> str | None:
    """What the device said, in one line, where ``error`` comes from a lack of memory; else None."""
    link: BaseException | None = error
    while link is not None:
        text = str(link)
        if isinstance(link, torch.OutOfMemoryError) or (
            isinstance(link, RuntimeError)
            and ("CUDA error: out of memory" in text or "_STATUS_ALLOC_FAILED" in text)
        ):
            return text.partition("\n")[0].partition(". ")[0]
        # A capture that broke off may end in an error of its own.
        link = link.__cause__ or link.__context__
    return None


def candidates(train: TrainConfig) -> Iterator[dict[str, int]]:
    """Changes of ``train`` that take less memory and leave every gradient as it is.

    Micro-batches of 2^k windows, the largest first, then batches cut in halves and accumulated.
    """
    size = 1 << max(1, (train.micro_batch or train.batch_size) - 1).bit_length() - 1
    while size >= _SMALLEST:
        yield {"micro_batch": size}
        size //= 2
    batch, times = train.batch_size, 1
    while batch % 2 == 0 and batch // 2 >= _SMALLEST:
        batch, times = batch // 2, times * 2
        yield {"batch_size": batch, "accumulation": train.accumulation * times}


def first_fitting(trial: Callable[[T], object], options: Iterable[T]) -> T | None:
    """The first of ``options`` for which ``trial`` has the memory; None where there is none."""
    return next((option for option in options if _fits(trial, option)), None)


def _fits(trial: Callable[[T], object], option: T) -> bool:
    try:
        trial(option)
    except RuntimeError as error:
        if out_of_memory(error) is None:
            raise
        # The frames that failed hold the activations.
        traceback.clear_frames(error.__traceback__)
        return False
    return True


def advice(
    config: Config, dataset: Dataset, device: torch.device, failure: str, *, world_size: int = 1
) -> DeviceMemoryError:
    """The error for a run that stopped with ``failure``, of which nothing holds memory any more.

    It names settings under which a few steps and a validation went through just now, on this
    device, with the run's own loader and kind of step, and some memory to spare.
    """
    spare = int(_MARGIN * torch.cuda.max_memory_reserved(device))
    share = config.train.batch_size // world_size
    own = config.train.model_copy(update={"batch_size": share})

    def trial(change: dict[str, int]) -> None:
        _release()
        train = own.model_copy(update={**change, "epochs": _STEPS})
        setup = set_up(config.model_copy(update={"train": train}), dataset, device)
        # After the loaders, which look at how much is free.
        reserve = torch.empty(spare, dtype=torch.uint8, device=device)
        # A graph of several steps and one of a single step.
        for _ in setup.trainer.steps(until=max(_STEPS, train.graph_steps + 1)):
            pass
        evaluate(setup.model, setup.val_loader, train, device)
        torch.cuda.synchronize(device)
        del reserve

    fits = first_fitting(trial, candidates(own))
    _release()
    size = own.micro_batch or share
    text = f"{device}: a step of {size} windows at a time does not fit into its memory ({failure})"
    if fits is None:
        return DeviceMemoryError(
            f"{text}, nor does any smaller one that was tried, down to {_SMALLEST}; use a smaller "
            "model or window, or free memory on the device"
        )
    if "batch_size" in fits:
        fits["batch_size"] *= world_size
    settings = " ".join(f"--set train.{name}={value}" for name, value in fits.items())
    return DeviceMemoryError(
        f"{text}; this was tried and fits, with the same gradients: {settings}"
    )


def _release() -> None:
    gc.collect()
    torch.cuda.empty_cache()
