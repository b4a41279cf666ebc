"""The performance report's claims, each with its wording and the range it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tfa_perf.claims.verdict import Kind

__all__ = ["CLAIMS", "PROMISES", "SHARES", "Claim", "claim"]


@dataclass(frozen=True)
class Claim:
    """One statement of the report.

    ``low`` and ``high`` bound what it claims: fractions of 1 for shares and reductions, times for
    speed-ups. A share of "about 40 %" stands for 35 to 45 %. A recommendation without a figure
    stands for "faster at all", 1 to infinity. ``method`` says how it is measured.
    """

    id: str
    wording: str
    kind: Kind
    low: float
    high: float
    method: str


def _share(id: str, wording: str, percent: int, parts: str) -> Claim:
    low, high = (percent - 5) / 100, (percent + 5) / 100
    method = f"timers around {parts}; and whole steps with that part replaced by its stored result"
    return Claim(id, wording, "share", low, high, method)


def _faster(id: str, wording: str, method: str) -> Claim:
    return Claim(id, wording, "speedup", 1.0, math.inf, method)


SHARES = (
    _share("share-data", "data loading: ~40 % of training time", 40, "the fetch of a batch"),
    _share(
        "share-compute",
        "model forward/backward: ~30 % of training time",
        30,
        "forward, loss, backward and clipping",
    ),
    _share(
        "share-memory",
        "memory management: ~20 % of training time",
        20,
        "copies to the device and zero_grad (the allocator's work is inside the other parts; only "
        "the ablation, with an allocator that keeps its memory, sees it)",
    ),
    _share(
        "share-other",
        "other overhead: ~10 % of training time",
        10,
        "the optimizer's update, loss reads, prints and Python",
    ),
)

PROMISES = (
    Claim(
        "data-loading",
        "60-80 % reduction in data loading time",
        "reduction",
        0.60,
        0.80,
        "one pass over all windows, batches on the device at the end",
    ),
    Claim(
        "compute",
        "30-50 % reduction in computation time",
        "reduction",
        0.30,
        0.50,
        "forward and backward of one batch",
    ),
    Claim(
        "memory",
        "40-60 % reduction in memory overhead",
        "reduction",
        0.40,
        0.60,
        "fresh processes: peak minus what is in use after imports",
    ),
    Claim(
        "loop",
        "20-30 % reduction in training overhead",
        "reduction",
        0.20,
        0.30,
        "the whole loop with fetch, forward and backward replaced by stored results",
    ),
)

CLAIMS = (
    *SHARES,
    *PROMISES,
    Claim(
        "total",
        "3-5x faster training",
        "speedup",
        3.0,
        5.0,
        "whole epochs, one round in each of several fresh processes",
    ),
    _faster("window", "reduce sequence length T from 48 to 24-32", "whole steps as written"),
    _faster(
        "smaller-model", "optimize model size (d_model=96, num_layers=2)", "whole steps as written"
    ),
    _faster(
        "accumulation",
        "use gradient accumulation for larger effective batch sizes",
        "time per sample of whole steps as written",
    ),
    _faster("progress", "reduce progress tracking frequency", "whole steps as written"),
    _faster(
        "memory-map",
        "use memory-mapped arrays for large datasets",
        "from the file to batches of the report's window loop, file in the page cache",
    ),
    _faster(
        "mixed-precision", "implement mixed precision training", "whole steps, bfloat16 autocast"
    ),
    _faster(
        "early-stopping",
        "implement early stopping: 25 epochs may be excessive",
        "epochs of the plan over epochs until the validation loss has stopped falling; counts "
        "epochs, not seconds, and says nothing about the quality of the model",
    ),
)


def claim(id: str) -> Claim:
    """The claim of that id; KeyError where there is none."""
    for found in CLAIMS:
        if found.id == id:
            return found
    raise KeyError(id)
