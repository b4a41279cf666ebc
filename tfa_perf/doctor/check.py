"""What one look at the installation has found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Check"]


@dataclass(frozen=True)
class Check:
    """`found` in words; where something is wrong, `problem` says what and `remedy` what to do."""

    name: str
    found: str
    problem: str | None = None
    remedy: str | None = None
