"""Does a feature read the future, another series, or the start beyond its stated lookback?

The features are built again from less: without the last bars, without the first bars, one series at
a time. What a row says about its past must not change.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy.typing as npt

from tfa_kernels._rebuild import as_table, read_matrix, take
from tfa_kernels.features import build_features
from tfa_kernels.leakage_report import Column, LeakageReport
from tfa_kernels.ops import OPS
from tfa_kernels.spec import Feature, FeatureSpec, load_spec


def check_leakage(
    spec: str | os.PathLike[str] | Mapping[str, Any] | FeatureSpec | None,
    bars: object,
    *,
    build: Callable[[Any], Any] | None = None,
    lookbacks: Mapping[str, int] | None = None,
    checks: int = 6,
    rtol: float = 1e-6,
) -> LeakageReport:
    """Build the features again from fewer bars and report whose values change.

    - look-ahead: rows change when later bars are removed.
    - crosses series: rows change when the other series are removed. So features that are meant to
      compare symbols, such as ranks, are reported.
    - start dependence: a feature that states a finite lookback changes, beyond that lookback, when
      its series starts later. Recursive ops and running totals state none: the history that they
      need is measured, not judged (``FeatureLeakage.settled_after``). It depends on the bars:
      RSI, a ratio of two means that fade alike, forgets nothing while prices stand still.

    Values are equal where they differ by at most rtol times the sum of their magnitude and the
    column's median magnitude. ``build_features`` gives the same bits without the later bars, but
    not from a later start: rolling sums are rebuilt at fixed rows of a series, so they are rounded
    differently, and a float32 value may come out one step away.

    Only what these bars bring about is seen: give real ones, several times the longest lookback.

    Parameters
    ----------
    spec : see ``load_spec``; None with a ``build`` that has none.
    bars : see ``build_features``.
    build : bars -> [N, F], ``build_features`` with the spec by default. It is given copies: frames
        where bars is one, else a dict of arrays, whose ``symbol`` tells series apart. Without a
        spec its features are named by the result's ``names`` or ``columns``, else "0", "1", ....
    lookbacks : for a build without spec, by name: rows of history before the first row that must
        not depend on where the series began. Features left out are measured only.
    checks : how many rows to cut off at, and how many to start from, in each series; every row
        where it has no more.
    rtol : see above.

    Raises
    ------
    SpecError, TypeError, ValueError : the message names the argument. Leaks raise nothing; see
        ``LeakageReport.raise_if_leaking``.
    """
    parsed = None if spec is None else load_spec(spec)
    if build is None:
        if parsed is None:
            raise ValueError("spec is None; give a spec, or your own function as build")
        build = _builder(parsed)
    if parsed is not None and lookbacks is not None:
        raise ValueError("lookbacks is given beside a spec, which states them; leave one out")
    if isinstance(checks, bool) or not isinstance(checks, int) or checks < 1:
        raise ValueError(f"checks must be an integer of at least 1, got {checks!r}")
    if isinstance(rtol, bool) or not isinstance(rtol, (int, float)) or not 0 <= rtol < 1:
        raise ValueError(f"rtol is {rtol!r}; allowed: 0 <= rtol < 1")
    if lookbacks is not None and not isinstance(lookbacks, Mapping):
        raise TypeError(f"lookbacks must be a mapping, got {lookbacks!r}")
    table, offsets = as_table(bars)
    rows = int(offsets[-1])
    spans = [(a, b) for a, b in pairwise(offsets.tolist()) if b > a]
    if rows < 2:
        raise ValueError(f"bars has {rows} rows; at least 2 are needed")

    def rebuild(start: int, stop: int) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
        return read_matrix(build(take(table, start, stop)), stop - start)

    whole, names = rebuild(0, rows)
    columns = _columns(parsed, names, lookbacks or {}, whole, rtol)
    rebuilds = 0
    for start, stop in spans:
        size = stop - start
        alone = whole
        if len(spans) > 1:
            alone, _ = rebuild(start, stop)
            rebuilds += 1
            for c, column in enumerate(columns):
                column.isolated(alone[:, c], whole[start:stop, c], start)
        for cut in _spread(size, checks):
            part, _ = rebuild(start, start + cut)
            rebuilds += 1
            for c, column in enumerate(columns):
                column.truncated(part[:, c], alone[:cut, c], start)
        for later in _spread(size // 2 + 1, checks) | ({1} if size > 1 else set()):
            part, _ = rebuild(start + later, stop)
            rebuilds += 1
            for c, column in enumerate(columns):
                column.started(part[:, c], alone[later:, c], start + later)
    return LeakageReport(
        features=tuple(column.result() for column in columns),
        rows=rows,
        series=len(spans),
        rebuilds=rebuilds,
        rtol=rtol,
    )


def _builder(spec: FeatureSpec) -> Callable[[Any], Any]:
    return lambda bars: build_features(bars, spec)


def _spread(size: int, checks: int) -> set[int]:
    """Rows in 1..size - 1, evenly apart; every one where as many are asked for or more."""
    checks = min(checks, size - 1)
    return {size * i // (checks + 1) for i in range(1, checks + 1)} - {0}


def _columns(
    spec: FeatureSpec | None,
    names: tuple[str, ...],
    lookbacks: Mapping[str, int],
    whole: npt.NDArray[Any],
    rtol: float,
) -> list[Column]:
    if spec is None:
        unknown = sorted(set(lookbacks) - set(names))
        if unknown:
            raise ValueError(f"lookbacks names {unknown}, which build did not return: {names}")
        stated = [(name, lookbacks.get(name)) for name in names]
        return [
            Column(name, "undeclared" if rows is None else "finite", rows or 0, x, rtol)
            for (name, rows), x in zip(stated, whole.T, strict=True)
        ]
    if whole.shape[1] != len(spec.features):
        raise ValueError(f"build returned {whole.shape[1]} columns for {len(spec.features)} names")
    columns = []
    for feature, lookback, x in zip(spec.features, spec.lookbacks, whole.T, strict=True):
        kind = OPS[feature.op].dependence
        history = lookback + _first_bar_counts(spec, feature)
        columns.append(Column(feature.name, kind, max(history, spec.emit_from_index), x, rtol))
    return columns


def _first_bar_counts(spec: FeatureSpec, feature: Feature) -> int:
    """1 where "legacy" lets a series' first bar, which has no return, count as 0 in windows."""
    reads_returns = feature.columns in (("logret",), ("garman_klass",))
    return int(spec.convention == "legacy" and reads_returns)
