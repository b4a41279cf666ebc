"""The flame graph as a static SVG, for a README: no script, no network, no browser to make it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from tfa_perf.profile.atomic import write_text
from tfa_perf.profile.icicle import Chart, main_chart
from tfa_perf.profile.palette import INK, phase_colour
from tfa_perf.profile.run import Run

__all__ = ["write_svg"]

_ROW = 22
_CHARACTER = 6.7
_MARGIN = 12
_TOP = 12
# Narrower than this a box is a hairline.
_LEAST = 1.5
_LEVELS = 24
_SHARE = re.compile(r" [\d.]+ %$")
_LEGEND_SHARE = 0.005
_FONT = "font-family:ui-sans-serif,system-ui,'DejaVu Sans',sans-serif"


def write_svg(path: str | Path, run: Run, width: int = 1200) -> Path:
    """Draw the measured steps of `run` at `width` pixels, with the phases' shares as a legend.

    Hovering over a box shows its whole name, share and time where the SVG is opened by itself.

    Raises
    ------
    ValueError : `width` is below 200.
    """
    if width < 200:
        raise ValueError(f"width is {width}; give at least 200 pixels")
    chart = main_chart([run])
    boxes, levels = _boxes(chart, width - 2 * _MARGIN)
    legend, legend_rows = _legend(run, width - 2 * _MARGIN)
    legend_top = _TOP + levels * _ROW + 10
    height = legend_top + legend_rows * 20 + 8
    title = f"{run.label}: {run.ms_per_step:.2f} {run.unit}"
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img"><title>{_text(title)}</title>'
        f"<style>text{{{_FONT};font-size:12px;fill:{INK}}}"
        "rect{stroke:#fff;stroke-width:.7}</style>"
        f'<rect width="{width}" height="{height}" rx="6" fill="#fff"/>'
        f'<g transform="translate({_MARGIN},{_TOP})">{"".join(boxes)}</g>'
        f'<g transform="translate({_MARGIN},{legend_top})">{"".join(legend)}</g></svg>\n'
    )
    return write_text(path, text)


def _text(text: str) -> str:
    # XML allows no control characters, not even escaped.
    return escape("".join(c if c.isprintable() else "?" for c in text))


def _clip(text: str, room: float) -> str:
    """The whole label, else without file or time, else without its share, else its beginning."""
    short = text.split(" (")[0]
    bare = _SHARE.sub("", short)
    for label in (text, short, bare):
        if len(label) <= room:
            return label
    return f"{bare[: int(room) - 1]}…" if room >= 4 else ""


def _boxes(chart: Chart, width: float) -> tuple[list[str], int]:
    scale = width / max(chart.values[0], 1)
    left = [0.0] * len(chart.values)
    depths = [0] * len(chart.values)
    # Where the next child of each box starts.
    cursor = [0.0] * len(chart.values)
    drawn = []
    levels = 1
    for place, parent in enumerate(chart.parents):
        size = chart.values[place] * scale
        if parent >= 0:
            left[place] = cursor[parent]
            cursor[parent] += size
            depths[place] = depths[parent] + 1
        cursor[place] = left[place]
        if size < _LEAST or depths[place] >= _LEVELS:
            continue
        levels = max(levels, depths[place] + 1)
        x, y = left[place], depths[place] * _ROW
        label = _clip(chart.names[place], (size - 8) / _CHARACTER)
        note = f"{_text(chart.names[place])}&#10;{_text(chart.notes[place])}"
        drawn.append(
            f'<g><title>{note}</title><rect x="{x:.1f}" y="{y}" width="{size:.1f}" '
            f'height="{_ROW}" fill="{chart.colours[place]}"/>'
            + (f'<text x="{x + 4:.1f}" y="{y + 15}">{_text(label)}</text>' if label else "")
            + "</g>"
        )
    return drawn, levels


def _entries(run: Run) -> Iterator[tuple[str, str]]:
    for row in run.rows:
        if row.share >= _LEGEND_SHARE:
            yield row.phase, f"{row.phase} {100 * row.share:.1f} % ({row.ms:.2f} {run.unit})"


def _legend(run: Run, width: float) -> tuple[list[str], int]:
    """Phases by the timers, in as many lines as it takes."""
    if not run.rows:
        return [], 0
    items = ['<text x="0" y="12">timers:</text>']
    x, line = 54.0, 0
    for phase, label in _entries(run):
        size = 20 + _CHARACTER * len(label) + 14
        if x and x + size > width:
            x, line = 0.0, line + 1
        items.append(
            f'<rect x="{x:.1f}" y="{20 * line + 2}" width="12" height="12" rx="2" '
            f'fill="{phase_colour(phase)}"/><text x="{x + 17:.1f}" y="{20 * line + 12}">'
            f"{_text(label)}</text>"
        )
        x += size
    return items, line + 1
