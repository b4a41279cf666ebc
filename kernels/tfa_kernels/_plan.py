"""From a spec to what the fused pass is told: units, sources, and who does which part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tfa_kernels import _op_nb as op_nb
from tfa_kernels import _sources_nb as sources_nb
from tfa_kernels.ops import COLUMNS, OPS
from tfa_kernels.spec import FeatureSpec

_GROUP_COLUMNS = 8
_SOURCE_CODES = {
    "open": sources_nb.OPEN,
    "high": sources_nb.HIGH,
    "low": sources_nb.LOW,
    "close": sources_nb.CLOSE,
    "volume": sources_nb.VOLUME,
    "logret": sources_nb.LOGRET,
    "log_range_squared": sources_nb.LOG_RANGE_SQUARED,
    "garman_klass": sources_nb.GARMAN_KLASS,
}

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ColumnPlan:
    """Columns c0..c1 of a spec.

    units [U, SHAPE] and sources [S]: see ``_features_nb``. history: rows that any op looks back at.
    memory: floats that the ops keep.
    """

    units: Integers
    sources: Integers
    history: int
    memory: int


@lru_cache(maxsize=64)
def plan_columns(spec: FeatureSpec, c0: int, c1: int, longest: int | None) -> ColumnPlan:
    """Plan columns c0..c1, compiling the ops that are not compiled yet.

    longest: rows of the longest series, None where it has no end. A column whose lookback no series
    reaches is left out, so memory and history never exceed the longest series.
    """
    lanes_of: dict[tuple[object, ...], list[int]] = {}
    groups: list[list[int]] = []
    for c in range(c0, c1):
        if longest is not None and spec.lookbacks[c] >= longest:
            continue
        feature = spec.features[c]
        key = (feature.op, feature.columns)
        lanes = lanes_of.get(key)
        if lanes is None:
            lanes = []
            groups.append(lanes)
            if OPS[feature.op].side_by_side:
                lanes_of[key] = lanes
        lanes.append(c)
        if len(lanes) == op_nb.LANES:
            del lanes_of[key]
    sources: dict[str, int] = {}
    rows, memory, history = [], 0, 0
    for lanes in groups:
        feature = spec.features[lanes[0]]
        op, window = OPS[feature.op], feature.window or 1
        padded = lanes + [lanes[-1]] * (op_nb.LANES - len(lanes))
        read = [sources.setdefault(name, len(sources)) for name in feature.columns]
        read += [0] * (op_nb.SOURCES - len(read))
        windows = [spec.features[c].window or 1 for c in padded]
        head = [op.kernel.address, spec.begin(feature), len(lanes), memory]
        rows.append([*head, *read, *windows, *(c - c0 for c in padded)])
        memory += op.memory(window, feature.params)
        history = max(history, op.history(window, feature.params))
    codes = [_SOURCE_CODES[name] for name in sources]
    return ColumnPlan(
        units=np.array(rows, dtype=np.int64).reshape(-1, op_nb.SHAPE),
        sources=np.array(codes, dtype=np.int64),
        history=history,
        memory=memory,
    )


@lru_cache(maxsize=64)
def params(spec: FeatureSpec) -> npt.NDArray[np.float64]:
    """[F, PARAMS]"""
    values = np.zeros((len(spec.features), op_nb.PARAMS))
    for row, feature in zip(values, spec.features, strict=True):
        row[: len(feature.params)] = feature.params
    return values


@lru_cache(maxsize=64)
def lookbacks(spec: FeatureSpec) -> Integers:
    return np.array(spec.lookbacks, dtype=np.int64)


@lru_cache(maxsize=64)
def _costs(spec: FeatureSpec) -> npt.NDArray[np.float64]:
    return np.cumsum([0.0, *(OPS[feature.op].cost for feature in spec.features)])


def column_edges(spec: FeatureSpec, offsets: Integers, threads: int) -> Integers:
    """Where the columns are divided among tasks.

    Only where one series is too large a part of the work: whole rows write faster, and narrow
    groups would have threads share cache lines.
    """
    columns = len(spec.features)
    lengths = np.diff(offsets)
    groups = 1
    if threads > 1 and lengths.max(initial=0) * 4 * threads > lengths.sum():
        groups = min(threads, -(-columns // _GROUP_COLUMNS))
    done = _costs(spec)
    edges = np.searchsorted(done, np.arange(groups + 1) * (done[-1] / groups) - 1e-9)
    edges[-1] = columns
    return np.unique(edges)


def tasks(
    spec: FeatureSpec, offsets: Integers, edges: Integers, plans: list[ColumnPlan], threads: int
) -> tuple[Integers, Integers]:
    """The ``tasks`` and ``shares`` of the features kernel."""
    lengths, done = np.diff(offsets), _costs(spec)
    unit_edges = np.cumsum([0, *(len(plan.units) for plan in plans)])
    source_edges = np.cumsum([0, *(len(plan.sources) for plan in plans)])
    parts = [
        (*columns, *units, *sources)
        for columns, units, sources in zip(
            pairwise(edges), pairwise(unit_edges), pairwise(source_edges), strict=True
        )
    ]
    rows = [(s, *part) for s in np.flatnonzero(lengths) for part in parts]
    work = np.cumsum([lengths[s] * (done[c1] - done[c0]) for s, c0, c1, *_ in rows])
    middles = work - np.diff(work, prepend=0.0) / 2
    targets = np.arange(1, threads) * (work[-1] / threads)
    shares = np.concatenate(([0], np.searchsorted(middles, targets), [len(rows)]))
    return np.array(rows, dtype=np.int64), shares.astype(np.int64)


def kernel_bars(columns: dict[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float64]]:
    """All bar columns for the kernel, float64 and contiguous; empty where not given."""
    bars = []
    for name in COLUMNS:
        column = np.ascontiguousarray(columns.get(name, ()), dtype=np.float64).view()
        # Always read-only, so that a table opened read-only needs no second compilation.
        column.flags.writeable = False
        bars.append(column)
    return bars
