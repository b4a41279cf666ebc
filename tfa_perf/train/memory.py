"""What to do when a device's memory does not hold a step: a size that does, tried on it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["DeviceMemoryError", "largest_fitting", "memory_advice"]


class DeviceMemoryError(RuntimeError):
    """A step that does not fit into the device's memory; the message names a size that does."""


@contextmanager
def memory_advice(
    model: nn.Module, windows: int, shape: tuple[int, ...], *, bf16: bool
) -> Iterator[None]:
    """Turn torch's out-of-memory error in here into DeviceMemoryError.

    ``windows`` is the size of one forward and backward, ``shape`` that of a window. Halves of it
    are tried on ``model`` once the failed step's memory is back; the gradients are lost.
    """
    failure = None
    try:
        yield
    except torch.OutOfMemoryError as error:
        # The frames that failed hold the activations.
        traceback.clear_frames(error.__traceback__)
        failure = str(error).partition(". ")[0]
    if failure is None:
        return
    device = next(model.parameters()).device

    def attempt(size: int) -> None:
        model.zero_grad(set_to_none=True)
        # Adam's two moments, and the copies that a capture makes of those and the parameters.
        reserve = [torch.empty_like(p) for p in model.parameters() for _ in range(5)]
        x = torch.zeros((size, *shape), device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(x)
        F.binary_cross_entropy_with_logits(logits.float(), torch.zeros_like(logits)).backward()
        del reserve

    fits = largest_fitting(attempt, windows // 2)
    model.zero_grad(set_to_none=True)
    advice = (
        f"{fits} fit: --set train.micro_batch={fits} takes less memory and leaves the gradient as "
        "it is"
        if fits
        else "not even one fits; use a smaller model or free memory on the device"
    )
    raise DeviceMemoryError(
        f"{device}: {windows} windows in one forward and backward do not fit ({failure}); {advice}"
    )


def largest_fitting(attempt: Callable[[int], object], size: int) -> int:
    """``size``, or the first of its halves, for which ``attempt`` has the memory; 0 if none."""
    while size:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(size)
        except torch.OutOfMemoryError as error:
            traceback.clear_frames(error.__traceback__)
            size //= 2
        else:
            return size
    return 0
