"""What features built again from less have shown, feature by feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LOOK_AHEAD = "look-ahead"
CROSSES_SERIES = "crosses series"
START_DEPENDENCE = "start dependence"


class LeakageError(ValueError):
    """A feature leaks, or could not be tested."""


@dataclass(frozen=True)
class FeatureLeakage:
    """What was seen of one feature.

    Attributes
    ----------
    name : its column.
    start_dependence : "finite": it reads a window of bars, and where the series began must not show
        after ``lookback`` rows. "decaying": recursive (EMA, RSI, ...), the start fades.
        "unbounded": a running total (OBV, VPT, AD_LINE), the start never fades. "undeclared": of a
        ``build`` of one's own, nothing stated.
    lookback : the stated rows of history, None where it is not finite.
    settled_after : rows after which every build that started later agreed for good, None if one
        still differed at its last row. As much history makes a live feature agree with the one
        trained on.
    bars_ahead : how far ahead of its own bar it was seen to read, 0 without look-ahead.
    problems : pairs of "look-ahead", "crosses series" or "start dependence" and a sentence.
    tested : whether the bars were long enough to compare rows with a value.
    """

    name: str
    start_dependence: str
    lookback: int | None
    settled_after: int | None
    bars_ahead: int
    problems: tuple[tuple[str, str], ...]
    tested: bool


@dataclass(frozen=True)
class LeakageReport:
    """Result of ``check_leakage``; ``str()`` lists the leaks and what depends on the start.

    rows, series: size of the bars. rebuilds: how many smaller builds were compared.
    """

    features: tuple[FeatureLeakage, ...]
    rows: int
    series: int
    rebuilds: int
    rtol: float

    @property
    def leaking(self) -> tuple[str, ...]:
        """Names of the features with problems."""
        return tuple(feature.name for feature in self.features if feature.problems)

    @property
    def untested(self) -> tuple[str, ...]:
        """Names of the features for which the bars are too short."""
        return tuple(feature.name for feature in self.features if not feature.tested)

    def raise_if_leaking(self) -> None:
        """Raise LeakageError if a feature leaks or could not be tested."""
        if self.leaking or self.untested:
            raise LeakageError(str(self))

    def __str__(self) -> str:
        lines = [
            f"{len(self.features)} features, {self.rows} rows in {self.series} series, "
            f"{self.rebuilds} rebuilds, rtol {self.rtol:g}: "
            f"{len(self.leaking)} leaking, {len(self.untested)} not tested"
        ]
        for feature in self.features:
            lines += [f"  {feature.name}: {kind}: {text}" for kind, text in feature.problems]
            if not feature.tested:
                lines.append(f"  {feature.name}: not tested, too few rows with a value")
        started = [f for f in self.features if f.tested and f.start_dependence != "finite"]
        if started:
            lines.append("rows until a later start no longer shows:")
        for feature in started:
            rows = feature.settled_after
            after = "more than these bars have" if rows is None else str(rows)
            lines.append(f"  {feature.name}: {after} ({feature.start_dependence})")
        return "\n".join(lines)


class Column:
    """Gathers what the rebuilds show of one feature; row counts from ``first`` on."""

    def __init__(
        self, name: str, kind: str, first: int, whole: npt.NDArray[Any], rtol: float
    ) -> None:
        self._name, self._kind, self._first = name, kind, first
        sizes = np.abs(whole[np.isfinite(whole) & (whole != 0)])
        # A median: one outlier must not hide changes of everything else.
        self._scale = float(np.median(sizes)) if sizes.size else 0.0
        self._rtol = rtol
        self._ahead = 0
        self._settled: int | None = first
        self._problems: dict[str, str] = {}
        self._cut_seen = self._start_seen = False

    def _changed(self, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        x, y = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            bound = self._rtol * (np.maximum(np.abs(x), np.abs(y)) + self._scale)
            near = (np.abs(x - y) <= bound) & np.isfinite(bound)
        return np.flatnonzero(~(near | (x == y) | (np.isnan(x) & np.isnan(y))))

    def isolated(self, alone: npt.NDArray[Any], whole: npt.NDArray[Any], start: int) -> None:
        changed = self._changed(alone, whole)
        if changed.size:
            self._problems.setdefault(
                CROSSES_SERIES,
                f"{changed.size} rows from row {start + int(changed[0])} on change when the "
                f"series that begins at row {start} is built alone",
            )

    def truncated(self, part: npt.NDArray[Any], alone: npt.NDArray[Any], start: int) -> None:
        self._cut_seen |= bool((~np.isnan(part[self._first :])).any())
        changed = self._changed(part, alone)
        if changed.size and part.size - changed[0] > self._ahead:
            self._ahead = part.size - int(changed[0])
            self._problems[LOOK_AHEAD] = (
                f"row {start + int(changed[0])} changes when the bars from row "
                f"{start + part.size} on are removed: it reads at least {self._ahead} bars ahead"
            )

    def started(self, part: npt.NDArray[Any], alone: npt.NDArray[Any], start: int) -> None:
        first = self._first
        self._start_seen |= bool((~np.isnan(part[first:])).any())
        changed = self._changed(part[first:], alone[first:])
        if not changed.size:
            return
        settled = first + int(changed[-1]) + 1
        if settled == part.size:
            self._settled = None
        elif self._settled is not None:
            self._settled = max(self._settled, settled)
        if self._kind == "finite":
            self._problems.setdefault(
                START_DEPENDENCE,
                f"a start at row {start} shows until {settled} rows later, "
                f"where {first} rows of history were stated",
            )

    def result(self) -> FeatureLeakage:
        tested = self._cut_seen and self._start_seen
        return FeatureLeakage(
            name=self._name,
            start_dependence=self._kind,
            lookback=self._first if self._kind == "finite" else None,
            settled_after=self._settled if tested else None,
            bars_ahead=self._ahead,
            problems=tuple(self._problems.items()),
            tested=tested,
        )
