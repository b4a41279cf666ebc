"""The difference of two runs' mean step times, with an interval from batch means.

Steps next to each other are alike (caches, clock rates, other programs), so they do not count as
independent. The means of long batches of consecutive steps nearly do: from at most 20 batches a run
follows Welch's t interval (Law, Simulation Modeling and Analysis, 5th ed., section 9.5.3). It
covers the variation inside the two runs, not what a machine does between them: for that, the means
of repeated runs take the place of the batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, variance

__all__ = ["MIN_BATCHES", "MIN_RUNS", "Interval", "batch_means", "mean_difference", "t_quantile"]

MAX_BATCHES = 20
MIN_BATCHES = 6
MIN_RUNS = 3


@dataclass(frozen=True)
class Interval:
    """Where a difference lies, with 95 % confidence."""

    low: float
    high: float


def batch_means(sums: Sequence[float], steps: Sequence[int]) -> list[float]:
    """Mean per step of at most 20 batches of consecutive blocks, in order.

    Parameters
    ----------
    sums, steps : the total of each block and how many steps it holds.
    """
    length = max(1, math.ceil(len(sums) / MAX_BATCHES))
    count = len(sums) // length
    means = []
    for batch in range(count):
        # What is left over goes to the last batch: a short one would weigh too much.
        end = (batch + 1) * length if batch < count - 1 else len(sums)
        part = slice(batch * length, end)
        means.append(sum(sums[part]) / sum(steps[part]))
    return means


def t_quantile(p: float, df: float) -> float:
    """Quantile of Student's t, by the series of Abramowitz and Stegun 26.7.5 (df >= 2)."""
    x = NormalDist().inv_cdf(p)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / df ** (power + 1) for power, term in enumerate(terms))


def mean_difference(
    before: Sequence[float], after: Sequence[float], least: int = MIN_BATCHES
) -> Interval | None:
    """95 % interval of mean(after) - mean(before); None with fewer than `least` values of one."""
    if min(len(before), len(after)) < least:
        return None
    parts = [variance(side) / len(side) for side in (before, after)]
    error = math.sqrt(sum(parts))
    difference = sum(after) / len(after) - sum(before) / len(before)
    if not error:
        return Interval(difference, difference)
    weights = sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, (before, after), strict=True)
    )
    half = t_quantile(0.975, sum(parts) ** 2 / weights) * error
    return Interval(difference - half, difference + half)
