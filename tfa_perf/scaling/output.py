"""Sweeps as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tfa_perf.scaling.plot import AXES
from tfa_perf.scaling.sweep import Swept
from tfa_perf.units import duration

__all__ = ["LEGEND", "exponents_text", "scaling_json", "scaling_markdown"]

LEGEND = (
    "Medians of runs of the two sides in turn, with their 95 % interval; before is the report's "
    "code, after ours. The exponent p of cost ~ size^p is the slope of a least-squares line "
    "through the logarithms of size and median; its 95 % interval comes from the distance of the "
    "points from the line, so it is wide where the cost is no power of the size."
)


def scaling_json(
    results: Sequence[Swept], machine: Mapping[str, str], *, date: str = "", quick: bool = False
) -> str:
    """Everything, for `tfa-perf report` and for other programs."""
    tree = {
        "format": "tfa-perf scaling",
        "version": 1,
        "date": date,
        "quick": quick,
        "machine": dict(machine),
        "sweeps": [_sweep(swept) for swept in results],
    }
    return json.dumps(tree, indent=1, allow_nan=False) + "\n"


def _sweep(swept: Swept) -> dict[str, Any]:
    sweep = swept.sweep
    powers = {side: swept.power(side) for side in swept.points}
    return {
        "id": sweep.id,
        "work": sweep.work,
        "axis": sweep.axis,
        "fixed": sweep.fixed,
        "plot": f"{sweep.id}.svg" if swept.points else None,
        "points": {side: [asdict(p) for p in points] for side, points in swept.points.items()},
        "exponents": {side: power and asdict(power) for side, power in powers.items()},
        "ratios": [{"size": size, **asdict(ratio)} for size, ratio in swept.ratios.items()],
        "left_out": [asdict(left) for left in swept.left_out],
    }


def exponents_text(swept: Swept) -> str:
    """Exponents of a sweep's sides in one line."""
    found = [f"{side} {power}" for side in swept.points if (power := swept.power(side))]
    return f"{swept.sweep.axis}^p, p: " + ", ".join(found) if found else "no exponent"


def scaling_markdown(results: Sequence[Swept], machine: Mapping[str, str]) -> str:
    """A section a sweep: plot, exponents, table, and what was left out."""
    lines = [
        "# Cost as work grows",
        "",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()),
        "",
        LEGEND,
        "",
    ]
    for swept in results:
        sweep = swept.sweep
        lines += [f"## {sweep.work} over {AXES[sweep.axis]} ({sweep.axis})", "", sweep.fixed, ""]
        if swept.points:
            lines += [f"![{sweep.work}]({sweep.id}.svg)", "", exponents_text(swept), ""]
            lines += _table(swept)
        lines += [_left_out(left.size, left.side, left.why) for left in swept.left_out]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _table(swept: Swept) -> list[str]:
    sides = list(swept.points)
    at = {side: {p.size: p for p in points} for side, points in swept.points.items()}
    headings = [swept.sweep.axis, *sides, "before/after"]
    lines = [f"| {' | '.join(headings)} |", "|" + "---:|" * len(headings)]
    for size in sorted({size for points in at.values() for size in points}):
        cells = [f"{size:,}"]
        for side in sides:
            p = at[side].get(size)
            cells.append(
                f"{duration(p.seconds)} [{duration(p.low)}, {duration(p.high)}]" if p else "-"
            )
        cells.append(str(swept.ratios.get(size, "-")))
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _left_out(size: int, side: str, why: str) -> str:
    return f"- left out: {size:,}{side and f', {side}'}: {why}"
