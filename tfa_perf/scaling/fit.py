"""The exponent of a cost: least squares of log seconds on log size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["FEWEST", "Power", "fit_power"]

FEWEST = 3

# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom.
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)


@dataclass(frozen=True)
class Power:
    """``seconds = factor * size ** exponent``.

    ``low`` and ``high`` are the 95 % interval of the exponent. It comes from how far the points
    lie from the line, so it is wide where the cost is no power of the size.
    """

    exponent: float
    low: float
    high: float
    factor: float
    points: int

    def __str__(self) -> str:
        return f"{self.exponent:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def at(self, size: float) -> float:
        """Seconds by the fitted line."""
        return float(self.factor * size**self.exponent)


def fit_power(sizes: Sequence[float], seconds: Sequence[float]) -> Power | None:
    """Fit a power law; None for fewer than three points, which leave nothing for an interval.

    The interval is that of the slope of a simple regression (Draper and Smith, Applied
    Regression Analysis, 3rd ed., section 1.4).

    Raises ValueError for unequal lengths, for sizes that are not all different, for values that
    are not above 0, and for more than 14 points.
    """
    if len(sizes) != len(seconds) or len(set(sizes)) != len(sizes):
        raise ValueError(
            f"sizes, seconds: one time for each of several different sizes is needed, got sizes "
            f"{list(sizes)} and {len(seconds)} times"
        )
    if any(value <= 0 for value in (*sizes, *seconds)):
        raise ValueError("sizes, seconds: all must be above 0")
    count = len(sizes)
    if count < FEWEST:
        return None
    if count - 2 > len(_T_QUANTILES):
        raise ValueError(f"sizes: at most {len(_T_QUANTILES) + 2} points, got {count}")
    x, y = np.log(sizes), np.log(seconds)
    spread = x - x.mean()
    squares = float(spread @ spread)
    slope = float(spread @ y) / squares
    level = float(y.mean() - slope * x.mean())
    residuals = y - (level + slope * x)
    error = math.sqrt(float(residuals @ residuals) / (count - 2) / squares)
    reach = _T_QUANTILES[count - 3] * error
    return Power(slope, slope - reach, slope + reach, math.exp(level), count)
