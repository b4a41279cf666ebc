"""Seconds and rates as a reader wants them."""

from __future__ import annotations

__all__ = ["duration", "rate"]


def duration(seconds: float) -> str:
    """Three digits and the unit they need."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}" if seconds < 1e3 else f"{seconds:,.0f} s"
    return f"{seconds * 1e9:.3g} ns"


def rate(per_second: float | None, unit: str) -> str:
    """Three digits of ``unit`` with its prefix; empty for None."""
    if per_second is None:
        return ""
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if per_second >= scale:
            return f"{per_second / scale:.3g} {prefix}{unit}"
    return f"{per_second:.3g} {unit}"
