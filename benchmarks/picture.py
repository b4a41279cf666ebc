"""Draw docs/before-after-*.svg from ``benchmarks/results/``: ``python -m benchmarks.picture``."""

from __future__ import annotations

import math
import re
from pathlib import Path

from benchmarks.reference import RESULTS
from tfa_perf import svg
from tfa_perf.claims.files import write_whole
from tfa_perf.report.benchmark import read_benchmark

__all__ = ["FOLDER", "pictures"]

FOLDER = Path(__file__).parents[1] / "docs"
_WIDTH, _ROW, _TOP, _LEFT, _RIGHT = 960, 28, 56, 300, 260
_RATIO = re.compile(r"([\d.]+)x \[([\d.]+), ([\d.]+)\]")


def pictures() -> dict[str, str]:
    """SVG by file name: before/after of each bottleneck with its interval, on a log scale."""
    return {f"before-after-{path.stem}.svg": _picture(path) for path in RESULTS.glob("*.json")}


def _picture(path: Path) -> str:
    run = read_benchmark(path)
    rows = [
        (cells[0], *map(float, found.groups()), cells[3], cells[5])
        for cells in run.table("bottleneck")
        if (found := _RATIO.search(cells[3]))
    ]
    low = min(0.5, *(row[2] for row in rows)) / 1.1
    high = max(2.0, *(row[3] for row in rows)) * 1.1

    def x(value: float) -> float:
        share = math.log(max(value, low) / low) / math.log(high / low)
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share

    machine = run.machine["cpu"] if run.machine["gpu"] == "none" else run.machine["gpu"]
    title = f"before/after, log scale, 95 % intervals: {machine}, {run.day}"
    bottom = _TOP + _ROW * len(rows)
    parts = [svg.text(14, 24, title), svg.rect(x(1), _TOP - 8, 1, bottom - _TOP + 8, "ink")]
    for tick in svg.log_ticks(low, high):
        parts += [svg.line(x(tick), _TOP - 8, x(tick), bottom, "grid")]
        parts += [svg.text(x(tick), _TOP - 12, f"{tick:g}x", "dim", "middle")]
    for number, (name, value, least, most, label, verdict) in enumerate(rows):
        middle = _TOP + _ROW * (number + 0.5)
        kind = "c" if verdict == "faster" else "a" if verdict == "slower" else "b"
        parts += [
            svg.text(14, middle + 4, name),
            svg.rect(min(x(1), x(value)), middle - 7, abs(x(value) - x(1)), 14, kind),
            svg.rect(x(least), middle - 1.5, x(most) - x(least), 3, "ink"),
            svg.text(_WIDTH - _RIGHT + 16, middle + 4, f"{label} {verdict}", "dim"),
        ]
    return svg.document(_WIDTH, bottom + 16, parts, title)


if __name__ == "__main__":
    for name, content in pictures().items():
        write_whole(FOLDER / name, content)
