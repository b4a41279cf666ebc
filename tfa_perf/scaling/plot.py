"""The picture of a sweep: seconds over size, both axes logarithmic, with the fitted lines."""

from __future__ import annotations

import math

from tfa_perf import svg
from tfa_perf.scaling.sweep import Swept
from tfa_perf.units import duration

__all__ = ["AXES", "sweep_plot"]

AXES = {"N": "rows", "F": "features", "T": "window", "B": "batch"}

# Narrow enough for a telephone, side by side on anything wider.
_WIDTH, _HEIGHT = 400, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 22, 66, 44
_COLOURS = {"before": "a", "after": "b"}


def sweep_plot(swept: Swept) -> str:
    """SVG of one sweep that has a point at least."""
    sweep = swept.sweep
    points = [point for side in swept.points.values() for point in side]
    x_low, x_high = float(min(p.size for p in points)), float(max(p.size for p in points))
    y_low, y_high = min(p.low for p in points) / 1.4, max(p.high for p in points) * 1.4
    if x_low == x_high:
        x_low, x_high = x_low / 2, x_high * 2
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(size: float) -> float:
        return _LEFT + plot_width * math.log(size / x_low) / math.log(x_high / x_low)

    def y(seconds: float) -> float:
        share = math.log(seconds / y_low) / math.log(y_high / y_low)
        return _TOP + plot_height * (1 - share)

    title = f"{sweep.work} over {sweep.axis}"
    bottom = _HEIGHT - _BOTTOM
    parts = [svg.text(10, 20, title)]
    for tick in svg.log_ticks(y_low, y_high):
        parts += [
            svg.line(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), "grid"),
            svg.text(_LEFT - 6, y(tick) + 4, duration(tick), "dim", "end"),
        ]
    for tick in svg.log_ticks(x_low, x_high):
        parts += [
            svg.line(x(tick), _TOP, x(tick), bottom, "grid"),
            svg.text(x(tick), bottom + 16, _count(tick), "dim", "middle"),
        ]
    parts.append(
        svg.text(_LEFT + plot_width / 2, _HEIGHT - 8, f"{AXES[sweep.axis]} ({sweep.axis})", "dim",
                 "middle")
    )  # fmt: skip
    for row, (side, found) in enumerate(swept.points.items()):
        colour = _COLOURS.get(side, "c")
        power = swept.power(side)
        legend = side if power is None else f"{side} ~ {sweep.axis}^{power}"
        top = 36 + 16 * row
        parts += [svg.rect(10, top - 8, 10, 10, colour), svg.text(26, top + 1, legend, "dim")]
        if power is not None:
            ends = (found[0].size, found[-1].size)
            parts.append(
                svg.line(x(ends[0]), _inside(y(power.at(ends[0]))), x(ends[1]),
                         _inside(y(power.at(ends[1]))), f"{colour} fit")
            )  # fmt: skip
        parts += [svg.line(x(p.size), y(p.low), x(p.size), y(p.high), colour, 3) for p in found]
        parts.append(svg.dots([(x(p.size), y(p.seconds)) for p in found], colour))
    return svg.document(_WIDTH, _HEIGHT, parts, f"{title} ({sweep.fixed})")


def _inside(y: float) -> float:
    return min(max(y, _TOP), _HEIGHT - _BOTTOM)


def _count(number: float) -> str:
    for unit, scale in (("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:g}{unit}"
    return f"{number:g}"
