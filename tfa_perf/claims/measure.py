"""Paired timing: two sides run in turn, and the ratio of their times with its interval.

On a shared machine the speed drifts by more than the differences of interest, but two runs
next to each other drift together. So the sides alternate (AB, BA, AB, ...), each pair gives
one ratio, and the result is the median ratio with its exact order-statistic interval: no
distribution is assumed (Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tfa_perf.order_statistics import median_interval

__all__ = ["Ratio", "interleave", "median_interval", "paired_ratio"]


@dataclass(frozen=True)
class Ratio:
    """How many times as long the first side takes as the second.

    ``low`` and ``high`` enclose the true median ratio with probability ``coverage``, which is
    at least 0.95 from 6 pairs on.
    """

    median: float
    low: float
    high: float
    coverage: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f}x [{self.low:.2f}, {self.high:.2f}]"

    @property
    def verdict(self) -> str:
        """ "faster", "slower" or "no change detected", of the second side."""
        if self.low > 1:
            return "faster"
        if self.high < 1:
            return "slower"
        return "no change detected"


def paired_ratio(before: Sequence[float], after: Sequence[float]) -> Ratio:
    """Median of the pairs' ratios before/after, with its interval.

    ``before[i]`` and ``after[i]`` are times (any one unit, > 0) of runs next to each other.
    """
    if len(before) != len(after) or not len(before):
        raise ValueError(
            f"before, after: as many times on either side are needed, "
            f"got {len(before)} and {len(after)}"
        )
    logs = np.sort(np.log(np.asarray(before) / np.asarray(after)))
    low, high, coverage = median_interval(len(logs))
    median = float(np.median(logs))
    return Ratio(math.exp(median), math.exp(logs[low]), math.exp(logs[high]), coverage, len(logs))


def interleave(
    before: Callable[[], object], after: Callable[[], object], pairs: int
) -> tuple[list[float], list[float]]:
    """Run the two sides in turn, swapping which goes first; seconds of each run.

    Warm both up beforehand: compilation has no place in a pair.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        for side in order:
            start = time.perf_counter()
            (before, after)[side]()
            times[side].append(time.perf_counter() - start)
    return times
