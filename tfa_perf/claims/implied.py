"""What the report's component claims amount to together, by its own figures (Amdahl's law)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfa_perf.claims.table import PROMISES, SHARES, claim

__all__ = ["Implied", "implied", "implied_text", "total_speedup"]

# "The most critical issues are in the data pipeline and memory management."
_CRITICAL = ("share-data", "share-memory")


@dataclass(frozen=True)
class Implied:
    """Speed-ups of the whole: promises at their low and high ends, and the ceiling."""

    low: float
    high: float
    ceiling: float


def total_speedup(shares: Sequence[float], reductions: Sequence[float]) -> float:
    """``1 / sum(share * (1 - reduction))``.

    Raises ValueError for unequal lengths, or shares that do not add up to 1.
    """
    if len(shares) != len(reductions):
        raise ValueError(
            f"shares, reductions: as many of either are needed, got {len(shares)} "
            f"and {len(reductions)}"
        )
    if abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares: must add up to 1, these add up to {sum(shares):g}")
    return 1 / sum(s * (1 - r) for s, r in zip(shares, reductions, strict=True))


def implied() -> Implied:
    """From the claims table alone.

    The ceiling takes data loading and memory management for free, which no optimization of them
    can beat, and the other two promises at their high end.
    """
    shares = [(share.low + share.high) / 2 for share in SHARES]
    best = [promise.high for promise in PROMISES]
    free = [1.0 if s.id in _CRITICAL else r for s, r in zip(SHARES, best, strict=True)]
    return Implied(
        total_speedup(shares, [promise.low for promise in PROMISES]),
        total_speedup(shares, best),
        total_speedup(shares, free),
    )


def implied_text() -> str:
    """The arithmetic in two sentences."""
    found, total = implied(), claim("total")
    parts = " + ".join(
        f"{(s.low + s.high) / 2:.0%} x (1 - {p.low:.0%} to {p.high:.0%})"
        for s, p in zip(SHARES, PROMISES, strict=True)
    )
    return (
        f"By the report's own figures its component claims make training {found.low:.2f}x to "
        f"{found.high:.2f}x faster together (1 over {parts}), "
        f"not {total.low:.0f}-{total.high:.0f}x. "
        f"With data loading and memory management for free the ceiling is {found.ceiling:.1f}x."
    )
