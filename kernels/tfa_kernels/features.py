"""Fused features: one pass over the bars into a row-major matrix."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_kernels import _features_nb as nb
from tfa_kernels._arrays import check_out
from tfa_kernels._bar_nb import garman_klass, log_range_squared
from tfa_kernels._bars import read_columns, series_offsets
from tfa_kernels._jit import resolve_threads
from tfa_kernels.ops import OPS, bar_columns
from tfa_kernels.spec import FeatureSpec, load_spec

_GROUP_COLUMNS = 8


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """Result of ``build_features``.

    Attributes
    ----------
    values : float32 [N, F], C-contiguous.
    names : F column names.
    lookbacks : per column, the first row of a series with a value.
    convention : "legacy" or "talib".
    spec_hash : ``FeatureSpec.hash``.
    first_valid : the first row of a series at which every column has a value,
        alignment_policy.emit_from_index included.
    """

    values: npt.NDArray[np.float32]
    names: tuple[str, ...]
    lookbacks: tuple[int, ...]
    convention: str
    spec_hash: str
    first_valid: int


def build_features(
    bars: object,
    spec: str | os.PathLike[str] | Mapping[str, Any] | FeatureSpec,
    out: npt.NDArray[np.float32] | None = None,
    *,
    num_threads: int | None = None,
) -> FeatureMatrix:
    """Compute every feature of a spec in one pass.

    Rows before a column's lookback hold 0 in the "legacy" convention and NaN in "talib"; rows
    below emit_from_index hold pad_value. "legacy" rounds its inputs and logs to float32; all state
    is float64. A NaN, an inf or a magnitude of 1e140 or more makes the rolling columns (SMA, ZWIN,
    VOLATILITY, BOLLINGER, PARKINSON, GARMAN_KLASS) NaN while it is in the window and no longer; so
    does, in the last two, a price or ratio of prices that has no logarithm. A NaN or an inf does so
    with STOCHASTIC_K, STOCHASTIC_D, WILLIAMS_R, MFI and CCI. EMA, RSI, MACD, ATR, ADX, OBV, VPT and
    AD_LINE stay non-finite from there on. Ops of single bars give 0 where the bar lacks the range,
    volume or price before that they divide by.

    Parameters
    ----------
    bars : an object with attributes, a mapping, or a pandas or polars frame with the 1-D numeric
        columns that the spec reads among open, high, low, close, volume. Series: the attribute
        ``offsets`` (integers [S+1]) where an object has one, else runs of equal ``symbol``, else
        one series. Nothing is carried from one series into the next.
    spec : see ``load_spec``.
    out : float32 [N, F], C-contiguous, writeable, apart from the bars; a memmap is fine.
    num_threads : threads to use, numba's setting by default; the result is the same bit for bit.

    Raises
    ------
    SpecError, TypeError, ValueError : the message names the argument; ``out`` is then untouched.
    """
    spec = load_spec(spec)
    threads = resolve_threads(num_threads)
    read = [name for feature in spec.features for name in feature.columns]
    wanted = dict.fromkeys(bar for name in read for bar in bar_columns(name))
    columns = read_columns(bars, wanted)
    rows = next(iter(columns.values())).size
    offsets = series_offsets(bars, rows)
    shape = (rows, len(spec.features))
    if out is None:
        out = np.empty(shape, np.float32)
    else:
        check_out(out, shape, np.float32, {f"bars column {n!r}": c for n, c in columns.items()})
    if rows:
        sources = tuple(dict.fromkeys(read))
        legacy = spec.convention == "legacy"
        edges = _column_edges(spec, offsets, threads)
        longest = int(np.diff(offsets).max())
        laid_out = [_units(spec, sources, c0, c1, longest) for c0, c1 in pairwise(edges)]
        groups = [units for units, _ in laid_out]
        tasks, shares = _tasks(spec, offsets, edges, [len(group) for group in groups], threads)
        nb.features(
            _source_matrix(columns, sources, offsets, legacy, threads),
            offsets,
            tasks,
            shares,
            np.concatenate(groups),
            np.array(spec.lookbacks, dtype=np.int64),
            _params(spec),
            max(size for _, size in laid_out),
            legacy,
            0.0 if legacy else np.nan,
            spec.emit_from_index,
            spec.pad_value,
            np.asarray(out),
            num_threads=threads,
        )
    return FeatureMatrix(
        values=out,
        names=spec.names,
        lookbacks=spec.lookbacks,
        convention=spec.convention,
        spec_hash=spec.hash,
        first_valid=max(*spec.lookbacks, spec.emit_from_index),
    )


def _source_matrix(
    columns: Mapping[str, npt.NDArray[Any]],
    sources: tuple[str, ...],
    offsets: npt.NDArray[np.int64],
    legacy: bool,
    threads: int,
) -> npt.NDArray[np.float64]:
    src = np.empty((len(sources), int(offsets[-1])), np.float64)
    first_rows = offsets[:-1][np.diff(offsets) > 0]
    for row, name in zip(src, sources, strict=True):
        bars = [_inputs(columns[bar], legacy) for bar in bar_columns(name)]
        if name == "logret":
            nb.log_returns(*bars, legacy, row, num_threads=threads)
            row[first_rows] = 0.0 if legacy else np.nan
        elif name == "log_range_squared":
            log_range_squared(*bars, row, num_threads=threads)
        elif name == "garman_klass":
            garman_klass(*bars, row, num_threads=threads)
            # The legacy builder counts 0 for a series' first bar, whose range is known.
            if legacy:
                row[first_rows] = 0.0
        else:
            row[:] = bars[0]
    return src


def _inputs(column: npt.NDArray[Any], legacy: bool) -> npt.NDArray[np.float64]:
    with np.errstate(over="ignore"):
        rounded = column.astype(np.float32) if legacy else column
    return np.ascontiguousarray(rounded, dtype=np.float64)


@lru_cache(maxsize=64)
def _units(
    spec: FeatureSpec, sources: tuple[str, ...], c0: int, c1: int, longest: int
) -> tuple[npt.NDArray[np.int64], int]:
    """The kernel's units for columns c0..c1, and the size of their memory.

    Recursive ops of one source go four at a time. longest: rows of the longest series.
    """
    open_units: dict[tuple[object, ...], list[int]] = {}
    units: list[list[int]] = []
    for c in range(c0, c1):
        feature = spec.features[c]
        key = (feature.op, feature.columns)
        lanes = open_units.get(key)
        if lanes is None:
            lanes = []
            units.append(lanes)
            if OPS[feature.op].side_by_side:
                open_units[key] = lanes
        lanes.append(c)
        if len(lanes) == nb.LANES:
            del open_units[key]
    rows = []
    memory = 0
    for lanes in units:
        feature = spec.features[lanes[0]]
        padded = lanes + [lanes[-1]] * (nb.LANES - len(lanes))
        read = [sources.index(name) for name in feature.columns]
        read += [0] * (nb.SOURCES - len(read))
        windows = [spec.features[c].window or 1 for c in padded]
        head = [OPS[feature.op].code, spec.begin(feature), len(lanes), memory]
        memory += OPS[feature.op].memory(
            min(windows[0], longest), tuple(min(value, longest) for value in feature.params)
        )
        rows.append([*head, *read, *windows, *(c - c0 for c in padded)])
    return np.array(rows, dtype=np.int64), memory


@lru_cache(maxsize=64)
def _params(spec: FeatureSpec) -> npt.NDArray[np.float64]:
    params = np.zeros((len(spec.features), nb.PARAMS))
    for row, feature in zip(params, spec.features, strict=True):
        row[: len(feature.params)] = feature.params
    return params


@lru_cache(maxsize=64)
def _costs(spec: FeatureSpec) -> npt.NDArray[np.float64]:
    return np.cumsum([0.0, *(OPS[feature.op].cost for feature in spec.features)])


def _column_edges(
    spec: FeatureSpec, offsets: npt.NDArray[np.int64], threads: int
) -> npt.NDArray[np.int64]:
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


def _tasks(
    spec: FeatureSpec,
    offsets: npt.NDArray[np.int64],
    edges: npt.NDArray[np.int64],
    unit_counts: list[int],
    threads: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Tasks (series, first column, column end, first unit, unit end) and each worker's share."""
    lengths, done = np.diff(offsets), _costs(spec)
    unit_edges = np.cumsum([0, *unit_counts])
    groups = list(zip(pairwise(edges), pairwise(unit_edges), strict=True))
    tasks = [(s, *cs, *us) for s in np.flatnonzero(lengths) for cs, us in groups]
    work = np.cumsum([lengths[s] * (done[c1] - done[c0]) for s, c0, c1, _, _ in tasks])
    middles = work - np.diff(work, prepend=0.0) / 2
    targets = np.arange(1, threads) * (work[-1] / threads)
    shares = np.concatenate(([0], np.searchsorted(middles, targets), [len(tasks)]))
    return np.array(tasks, dtype=np.int64), shares.astype(np.int64)
