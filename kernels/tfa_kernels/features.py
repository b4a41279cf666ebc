"""Fused features: one pass over the bars into a row-major matrix."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tfa_kernels import _features_nb as nb
from tfa_kernels import _plan
from tfa_kernels._arrays import check_out
from tfa_kernels._bars import read_columns, series_offsets
from tfa_kernels._jit import resolve_threads
from tfa_kernels.ops import bar_columns
from tfa_kernels.spec import FeatureSpec, load_spec


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
        legacy = spec.convention == "legacy"
        edges = _plan.column_edges(spec, offsets, threads)
        longest = int(np.diff(offsets).max())
        plans = [_plan.plan_columns(spec, c0, c1, longest) for c0, c1 in pairwise(edges.tolist())]
        tasks, shares = _plan.tasks(spec, offsets, edges, plans, threads)
        sizes = [
            max(plan.sources.size for plan in plans),
            max(plan.history for plan in plans),
            max(plan.memory for plan in plans),
        ]
        nb.features(
            *_plan.kernel_bars(columns),
            offsets,
            tasks,
            shares,
            np.concatenate([plan.units for plan in plans]),
            np.concatenate([plan.sources for plan in plans]),
            _plan.lookbacks(spec),
            _plan.params(spec),
            np.array(sizes),
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
