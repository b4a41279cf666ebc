"""The exact interval of a median, which assumes no distribution.

Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2.
"""

from __future__ import annotations

import math

__all__ = ["median_interval"]


def median_interval(n: int, confidence: float = 0.95) -> tuple[int, int, float]:
    """Ranks (from 0) of the order statistics that enclose the median, and their coverage.

    The narrowest symmetric pair whose coverage is at least ``confidence``; for fewer than 6
    values there is none at 0.95, and the extremes with their own coverage are returned.
    """
    if n < 1:
        raise ValueError(f"n: at least one value is needed, got {n}")

    def coverage(k: int) -> float:
        return 1 - 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n

    k = 0
    while k + 1 < (n - 1) / 2 and coverage(k + 1) >= confidence:
        k += 1
    return k, n - 1 - k, max(coverage(k), 0.0)
