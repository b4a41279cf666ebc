"""What is wrong with the input of the results page."""

from __future__ import annotations

__all__ = ["ReportError"]


class ReportError(ValueError):
    """A part of the results page that was asked for cannot be read."""
