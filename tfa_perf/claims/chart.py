"""The chart of the claims: claimed ranges as bands, measured intervals as bars."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from tfa_perf import svg
from tfa_perf.claims.finding import Finding
from tfa_perf.claims.table import claim
from tfa_perf.claims.verdict import Estimate

__all__ = ["claims_chart"]

_WIDTH, _ROW, _LEFT, _RIGHT = 960, 34, 400, 180
_WORD, _VARIANT, _TITLE = 60, 60, 120


def claims_chart(findings: Sequence[Finding], title: str) -> str:
    """SVG with a panel for shares and reductions in percent, and one for speed-ups."""
    lines = textwrap.wrap(title, _TITLE)
    parts = [svg.text(14, 24 + 16 * number, line) for number, line in enumerate(lines)]
    y = 28.0 + 16 * len(lines)
    for speedups in (False, True):
        rows = [f for f in findings if (claim(f.claim).kind == "speedup") == speedups]
        if rows:
            y = _panel(parts, rows, y, speedups=speedups)
    return svg.document(_WIDTH, math.ceil(y), parts, title)


def _panel(parts: list[str], rows: list[Finding], top: float, *, speedups: bool) -> float:
    estimates = [f.estimate for f in rows if f.estimate is not None]
    low, high = _span(estimates, rows, speedups=speedups)
    left, right = float(_LEFT), float(_WIDTH - _RIGHT)

    def x(value: float) -> float:
        value = min(max(value, low), high)
        if speedups:
            return left + (right - left) * math.log(value / low) / math.log(high / low)
        return left + (right - left) * (value - low) / (high - low)

    bottom = top + 24 + _ROW * len(rows)
    ticks = svg.log_ticks(low, high) if speedups else _linear_ticks(low, high)
    for tick in ticks:
        label = f"{tick:g}x" if speedups else f"{100 * tick:.0f} %"
        parts += [
            svg.line(x(tick), top + 18, x(tick), bottom, "grid"),
            svg.text(x(tick), top + 12, label, "dim", "middle"),
        ]
    heading = "speed-up, log scale" if speedups else "shares and reductions"
    parts.append(svg.text(14, top + 12, heading, "dim"))
    for number, f in enumerate(rows):
        middle = top + 24 + _ROW * (number + 0.5)
        about = claim(f.claim)
        band_end = x(min(about.high, high))
        parts += [
            svg.rect(x(about.low), middle - 11, band_end - x(about.low), 22, "band"),
            svg.text(14, middle - 2, _cut(about.wording, _WORD)),
            svg.text(14, middle + 12, _cut(f.variant, _VARIANT), "dim"),
        ]
        kind = f.verdict.replace(" ", "-")
        if f.estimate is not None:
            e = f.estimate
            parts += [
                svg.line(x(e.low), middle, max(x(e.high), x(e.low) + 3), middle, kind, 6),
                svg.rect(x(e.value) - 2, middle - 8, 4, 16, kind),
            ]
        parts += [
            svg.text(right + 12, middle - 2, f.verdict, kind),
            svg.text(right + 12, middle + 12, f.measured, "dim"),
        ]
    return bottom + 18


def _span(
    estimates: Sequence[Estimate], rows: Sequence[Finding], *, speedups: bool
) -> tuple[float, float]:
    claims = [claim(f.claim) for f in rows]
    if speedups:
        values = [v for e in estimates for v in (e.low, e.high)]
        values += [c.low for c in claims] + [c.high for c in claims if math.isfinite(c.high)]
        return min(0.8, *values) / 1.05, max(2.0, *values) * 1.05
    # A large loss is drawn at the edge; its figure stands beside it.
    return max(-1.0, min(0.0, *(e.low for e in estimates), 0.0)), 1.0


def _linear_ticks(low: float, high: float) -> list[float]:
    return [k / 5 for k in range(math.ceil(low * 5), math.floor(high * 5) + 1)]


def _cut(words: str, length: int) -> str:
    return words if len(words) <= length else words[: length - 1] + "…"
