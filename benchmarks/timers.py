"""The clock of a round where a GPU is used."""

from __future__ import annotations

import time

import torch

__all__ = ["synchronised"]


def synchronised() -> float:
    """Seconds, read when the GPU has done what it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()
