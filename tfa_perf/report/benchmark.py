"""Saved runs of ``pytest benchmarks`` as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tfa_perf.claims.measure import Ratio
from tfa_perf.report.errors import ReportError
from tfa_perf.units import duration, rate

__all__ = [
    "BENCHMARK_HEADINGS",
    "MEMORY_HEADINGS",
    "BenchmarkRun",
    "memory_ratio",
    "newest_run",
    "read_benchmark",
    "span",
    "with_coverage",
]

BENCHMARK_HEADINGS = (
    "work",
    "before",
    "after",
    "before/after [95 %]",
    "A/A",
    "after is",
    "after: samples/s",
    "bytes/s",
    "of peak",
)
MEMORY_HEADINGS = ("peak memory", "before", "after", "before/after [least, most]")
_KEY = "tfa_perf"


@dataclass(frozen=True)
class BenchmarkRun:
    """What a saved run found, and on what machine.

    ``rows`` and ``memory`` are as benchmarks/saved.py writes them.
    """

    machine: Mapping[str, str]
    day: str
    size: str
    rows: Sequence[Mapping[str, Any]]
    memory: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]

    def table(self, name: str) -> list[tuple[str, ...]]:
        """Cells under ``BENCHMARK_HEADINGS`` of the rows of table "bottleneck" or "other"."""
        return [_cells(row) for row in self.rows if row["table"] == name]

    def memory_table(self) -> list[tuple[str, ...]]:
        """Cells under ``MEMORY_HEADINGS``: medians over fresh processes."""
        found: list[tuple[str, ...]] = []
        for work, sides in self.memory.items():
            if {"before", "after"} <= sides.keys():
                before, after = ([run["peak_mb"] for run in sides[s]] for s in ("before", "after"))
                cells = (f"{median(before):,.1f} MB", f"{median(after):,.1f} MB")
                found.append((work, *cells, memory_ratio(before, after)))
        return found


def read_benchmark(path: Path) -> BenchmarkRun:
    """A saved run of both sides.

    Raises ReportError where ``path`` cannot be read, or is none.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        ours = tree[_KEY]
        run = BenchmarkRun(
            ours["fingerprint"],
            tree["datetime"][:10],
            ours["size"],
            ours["rows"],
            ours["memory"],
        )
        run.table("bottleneck"), run.table("other"), run.memory_table()
        one_side = ours["one_side"]
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(
            f"{path}: is not a saved run of `pytest benchmarks`; give a file that it autosaved "
            "under .benchmarks/, or one of benchmarks/results/"
        ) from error
    if one_side:
        raise ReportError(
            f"{path}: is a run of one side; give one that `pytest benchmarks` made without --impl"
        )
    return run


def newest_run(storage: Path) -> Path | None:
    """The newest complete run of both sides in pytest-benchmark's storage; None without one."""
    found: tuple[str, Path] | None = None
    for path in storage.glob("**/[0-9][0-9][0-9][0-9]_*.json"):
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            whole = tree[_KEY]["complete"] and not tree[_KEY]["one_side"]
            when = str(tree["datetime"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if whole and (found is None or when > found[0]):
            found = when, path
    return found and found[1]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    ratio, floor = (Ratio(**row[key]) if row[key] else None for key in ("ratio", "floor"))
    share = row["share_of_peak"]
    return (
        row["name"],
        *("-" if row[key] is None else duration(row[key]) for key in ("before_s", "after_s")),
        with_coverage(ratio) or "-",
        span(floor) or "-",
        row["verdict"] or "-",
        rate(row["samples_per_s"], "/s"),
        rate(row["bytes_per_s"], "B/s"),
        "" if share is None else f"{share:.0%} {row['peak']}",
    )


def span(ratio: Ratio | None) -> str:
    """The interval alone, as of an A/A ratio."""
    return "" if ratio is None else f"[{ratio.low:.3f}, {ratio.high:.3f}]"


def with_coverage(ratio: Ratio | None) -> str:
    """The ratio and its interval, and how sure it is where that is less than 95 %."""
    if ratio is None:
        return ""
    return str(ratio) if ratio.coverage >= 0.95 else f"{ratio} at {ratio.coverage:.0%}"


def memory_ratio(before: Sequence[float], after: Sequence[float]) -> str:
    """Median, least and most of the ratios of peaks; none below a few pages, where it is noise."""
    if min(*before, *after) < 0.1:
        return "-"
    ratios = [b / a for b, a in zip(before, after, strict=True)]
    return f"{median(ratios):.2f}x [{min(ratios):.2f}, {max(ratios):.2f}]"
