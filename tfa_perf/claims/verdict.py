"""What an interval says about a claimed range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfa_perf.claims.measure import Ratio

__all__ = [
    "AT_LEAST",
    "CONFIRMED",
    "EXCEEDED",
    "INCONCLUSIVE",
    "INVALID",
    "NOT_MEASURED",
    "REFUTED",
    "Estimate",
    "Kind",
    "estimate_of",
    "judge",
]

CONFIRMED = "CONFIRMED"
AT_LEAST = "AT LEAST"
EXCEEDED = "EXCEEDED"
REFUTED = "REFUTED"
INCONCLUSIVE = "INCONCLUSIVE"
INVALID = "INVALID"
NOT_MEASURED = "NOT MEASURED"

Kind = Literal["share", "reduction", "speedup"]


@dataclass(frozen=True)
class Estimate:
    """A measured value and the interval that encloses the true median.

    Shares and reductions are fractions of 1, speed-ups are times. ``count`` is the number of
    pairs, steps or seeds, ``coverage`` the probability of the interval.
    """

    value: float
    low: float
    high: float
    coverage: float
    count: int


def estimate_of(ratio: Ratio, kind: Kind) -> Estimate:
    """Turn before/after into what a claim speaks of.

    A reduction is ``1 - after/before``. A share by ablation is the same of the step with and
    without the part. A speed-up is the ratio itself.
    """
    if kind == "speedup":
        values = (ratio.median, ratio.low, ratio.high)
    else:
        values = (1 - 1 / ratio.median, 1 - 1 / ratio.low, 1 - 1 / ratio.high)
    return Estimate(*values, ratio.coverage, ratio.pairs)


def judge(low: float, high: float, claimed_low: float, claimed_high: float) -> str:
    """Verdict on a claim [claimed_low, claimed_high] from a measured interval [low, high].

    CONFIRMED: the interval lies inside the claim. AT LEAST: it begins inside and reaches beyond.
    EXCEEDED: it lies above. REFUTED: it lies below. INCONCLUSIVE: it crosses the claim's lower
    end. Ends belong to the claim.

    Raises ValueError where an interval is not one.
    """
    if not low <= high or not claimed_low <= claimed_high:
        raise ValueError(
            f"low, high: an interval from low to high is needed, got [{low}, {high}] "
            f"and the claim [{claimed_low}, {claimed_high}]"
        )
    if low > claimed_high:
        return EXCEEDED
    if high < claimed_low:
        return REFUTED
    if low < claimed_low:
        return INCONCLUSIVE
    return CONFIRMED if high <= claimed_high else AT_LEAST
