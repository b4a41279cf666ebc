"""The tables that a run ends with, under pytest-benchmark's own."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.rounds import Row, median
from tfa_perf.claims.measure import Ratio, median_interval, paired_ratio
from tfa_perf.report.benchmark import memory_ratio, span, with_coverage
from tfa_perf.units import duration, rate

__all__ = ["print_lengths", "print_memory", "print_one_side", "print_rows", "unpaired"]

Write = Callable[[str], object]


def print_rows(
    write: Write,
    title: str,
    sides: tuple[str, str],
    rows: Mapping[str, Row],
    then: Mapping[str, Mapping[str, Any]],
    then_title: str,
) -> None:
    """Both sides of each row, their ratio with its interval, and what they got through.

    ``then`` holds the same rows of the run that this one is compared with; times of another
    machine say nothing here, ratios do.
    """
    if not rows:
        return
    before, after = sides
    table = _table(f"{title}: medians; ratio of rounds in turn with its 95 % interval", "work")
    for heading in (before, after, f"{before}/{after}", "A/A"):
        table.add_column(heading, justify="right")
    table.add_column(f"{after} is")
    if then:
        table.add_column(f"{before}/{after} in {then_title}", justify="right")
    _throughput_columns(table, after)
    for name, row in rows.items():
        cells = [name, duration(median(row.before)), duration(median(row.after))]
        cells += [with_coverage(row.ratio), span(row.floor), row.verdict]
        if then:
            cells.append(_ratio_text(then.get(name, {}).get("ratio")))
        table.add_row(*cells, *_throughput(row))
    _print(write, table)


def print_one_side(
    write: Write,
    title: str,
    side: str,
    rows: Mapping[str, Row],
    then: Mapping[str, Mapping[str, Any]],
    then_title: str,
) -> None:
    """One side alone; with a saved run, how many times as long the other one took.

    The two were not run in turn: a drift of the machine between them is in no interval.
    """
    if not rows:
        return
    table = _table(f"{title}: {side} alone, median", "work")
    table.add_column(side, justify="right")
    table.add_column("A/A", justify="right")
    if then:
        table.add_column(then_title, justify="right")
        table.add_column(f"{then_title} / now, not in turn", justify="right")
    _throughput_columns(table, side)
    for name, row in rows.items():
        now = row.after or row.before
        cells = [name, duration(median(now)), span(row.floor)]
        if then:
            saved = then.get(name, {})
            earlier = saved.get("after") or saved.get("before")
            if earlier:
                cells += [duration(median(earlier)), with_coverage(unpaired(earlier, now))]
            else:
                cells += ["-", "-"]
        table.add_row(*cells, *_throughput(row))
    _print(write, table)


def unpaired(then: Sequence[float], now: Sequence[float]) -> Ratio:
    """Ratio of two medians of runs that were not made in turn.

    Each median's interval has a coverage of 97.5 %, so that both hold together in 95 %.
    """
    low_then, high_then, sure_then = _interval(then)
    low_now, high_now, sure_now = _interval(now)
    return Ratio(
        median(then) / median(now),
        low_then / high_now,
        high_then / low_now,
        sure_then + sure_now - 1,
        min(len(then), len(now)),
    )


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    low, high, coverage = median_interval(len(values), 0.975)
    ordered = sorted(values)
    return ordered[low], ordered[high], coverage


def print_memory(
    write: Write, memory: Mapping[str, Mapping[str, Sequence[dict[str, float]]]]
) -> None:
    """Peak memory of fresh processes above what they held before the work."""
    if not memory:
        return
    sides = [side for side in ("before", "after") if any(side in runs for runs in memory.values())]
    table = _table("peak memory in fresh processes, above that of the inputs: MB, median", "work")
    for side in sides:
        table.add_column(side, justify="right")
    if len(sides) == 2:
        table.add_column("before/after [least, most]", justify="right")
    for side in sides:
        table.add_column(f"{side}: private, after the work", justify="right")
    for name, runs in memory.items():
        peaks = {side: [run["peak_mb"] for run in runs[side]] for side in sides}
        cells = [name, *(f"{median(peaks[side]):,.1f}" for side in sides)]
        if len(sides) == 2:
            cells.append(memory_ratio(peaks["before"], peaks["after"]))
        cells += [f"{median([run['private_mb'] for run in runs[side]]):,.1f}" for side in sides]
        table.add_row(*cells)
    _print(write, table)


def print_lengths(write: Write, results: Mapping[str, Mapping[int, Row]]) -> None:
    """ns per cell with each window, and as a multiple of the shortest."""
    if not results:
        return
    windows = list(next(iter(results.values())))
    title = f"ns per row; times as long as window {windows[0]}, median with interval"
    table = _table(title, "op")
    for window in windows:
        table.add_column(f"w {window}", justify="right")
    for window in windows[1:]:
        table.add_column(f"{window} : {windows[0]}", justify="right")
    for name, rows in results.items():
        costs = [median(row.before) for row in rows.values()]
        ratios = [paired_ratio(rows[w].before, rows[w].after) for w in windows[1:]]
        table.add_row(name, *(f"{cost:.2f}" for cost in costs), *map(str, ratios))
    _print(write, table)


def _ratio_text(saved: dict[str, Any] | None) -> str:
    return with_coverage(Ratio(**saved)) if saved else "-"


def _throughput_columns(table: Table, side: str) -> None:
    for heading in (f"{side}: samples", "bytes", "of peak"):
        table.add_column(heading, justify="right")


def _throughput(row: Row) -> list[str]:
    samples, moved = (work and work / row.seconds for work in (row.samples, row.moved))
    share = row.share
    return [
        rate(samples, "/s"),
        rate(moved, "B/s"),
        "" if share is None else f"{share:.0%} {row.peak}",
    ]


def _table(title: str, first: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    return table


def _print(write: Write, table: Table) -> None:
    text = io.StringIO()
    Console(file=text, width=max(180, shutil.get_terminal_size().columns)).print(table)
    write(text.getvalue())
