"""The device that a run computes on, by name."""

from __future__ import annotations

import torch

__all__ = ["DeviceError", "pick_device"]


class DeviceError(ValueError):
    """A device that torch does not know or does not have."""


def pick_device(name: str, *, local_rank: int | None = None) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one, else the CPU.

    With ``local_rank``, the number of this process among those of its host, it is the GPU of
    that number.

    Raises
    ------
    DeviceError : the name is no device, or none that windows and steps are made for, or there is
        none of its kind, or none of that number.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device: {name!r} is no torch device; use auto, cpu or cuda") from None
    if device.type == "cpu" and not device.index:
        return device
    if device.type != "cuda":
        raise DeviceError(f"device: {name!r} is not supported; use auto, cpu or cuda")
    if not torch.cuda.is_available():
        raise DeviceError(f"device: {name!r} asked for, but torch sees no GPU here; use cpu")
    gpus = torch.cuda.device_count()
    if device.index is not None and device.index >= gpus:
        raise DeviceError(f"device: {name!r} asked for, but torch sees {gpus} here, from cuda:0 on")
    if local_rank is None:
        return device
    if device.index is not None:
        raise DeviceError(
            f"device: {name!r} is one GPU, but several processes take one each; use cuda"
        )
    if local_rank >= gpus:
        raise DeviceError(
            f"device: process {local_rank} of this host finds no GPU of its own, torch sees {gpus} "
            f"here; start as many processes: torchrun --nproc-per-node {gpus}"
        )
    return torch.device("cuda", local_rank)
