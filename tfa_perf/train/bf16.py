"""Whether bfloat16 pays: always on a CUDA device, on a CPU only where a measurement says so."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tfa_perf.config import TrainConfig
from tfa_perf.train.step import CPU_MICRO_BATCH

__all__ = ["bf16_is_faster", "probed", "use_bf16"]

_PAIRS = 5


def use_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether the config's ``amp`` means bfloat16 autocast on ``device``.

    Raises ValueError for "probe" on a CPU, where only `probed` knows.
    """
    if config.amp == "probe" and device.type != "cuda":
        raise ValueError('amp: "probe" must be measured first; use probed(config, ...)')
    return config.amp == "bf16" or (config.amp != "off" and device.type == "cuda")


def probed(
    config: TrainConfig, model: nn.Module, loader: Iterable[Any], device: torch.device
) -> TrainConfig:
    """``config`` with the answer, "bf16" or "off", in place of ``amp="probe"``.

    On a CPU the answer is measured, on the first windows of ``loader``: a run on another machine,
    or a tie, may get another one. What resumes a run therefore takes the answer from it.
    """
    if config.amp != "probe":
        return config
    if device.type == "cuda":
        return config.model_copy(update={"amp": "bf16"})
    x = next(iter(loader))[0][: config.micro_batch or CPU_MICRO_BATCH]
    return config.model_copy(update={"amp": "bf16" if bf16_is_faster(model, x) else "off"})


def bf16_is_faster(model: nn.Module, x: Tensor) -> bool:
    """Whether forward and backward of ``x`` are faster under bfloat16 autocast on this CPU.

    True where bfloat16 wins each of 5 pairs that follow one another, the order turning; the
    first pair lost ends it. CPUs without bfloat16 matrix units (AMX) lose the first, by far.
    ``model``, its gradients and the random numbers stay as they are.
    """
    own = copy.deepcopy(model)
    with torch.random.fork_rng([]):
        for bf16 in (False, True):
            _seconds(own, x, bf16)
        for pair in range(_PAIRS):
            order = (False, True) if pair % 2 else (True, False)
            seconds = {bf16: _seconds(own, x, bf16) for bf16 in order}
            if seconds[True] >= seconds[False]:
                return False
    return True


def _seconds(model: nn.Module, x: Tensor, bf16: bool) -> float:
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(x)
    logits.float().sum().backward()
    return time.perf_counter() - began
