"""The report's feature builder: one column at a time, each written into the matrix by stride.

The report's builder is C++; this is the same structure compiled by Numba, on one thread, so
that the comparison is with compiled code. Inputs are float32 and each op fills a float32
column, as there; running sums are float64, so that the two sides agree.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfa_kernels import FeatureSpec, SpecError, load_spec
from tfa_perf.baseline import _columns_nb as nb
from tfa_perf.data.bars import Bars

__all__ = ["build_features"]

_OPS: dict[str, Callable[[Any, Any], Any]] = {
    "IDENT": lambda x, w: x,
    "LOGRET": lambda x, w: nb.logret(x),
    "SMA": nb.sma,
    "EMA": nb.ema,
    "RSI": nb.rsi,
    "ZWIN": nb.zwin,
}


def build_features(bars: Bars, spec: str | Path | FeatureSpec) -> NDArray[np.float32]:
    """Features of ``bars``, float32 [N, F], in the legacy convention, as one series.

    Raises
    ------
    SpecError : the spec is not in the legacy convention, or names an op that is not here.
    """
    spec = load_spec(spec)
    if spec.convention != "legacy":
        raise SpecError(
            f"convention is {spec.convention!r}, but the report's builder is 'legacy'; "
            "give a spec of that convention"
        )
    columns = {
        name: getattr(bars, name).astype(np.float32)
        for name in ("open", "high", "low", "close", "volume")
    }
    columns["logret"] = nb.logret(columns["close"])
    matrix = np.empty((len(bars), len(spec.features)), dtype=np.float32)
    for c, feature in enumerate(spec.features):
        if feature.op not in _OPS:
            raise SpecError(
                f"features[{c}] ({feature.name!r}): the report's builder has no op {feature.op}; "
                f"it has {', '.join(_OPS)}"
            )
        source = columns.get(feature.source, columns["close"])
        nb.write_column(matrix, c, _OPS[feature.op](source, feature.window))
    if spec.emit_from_index:
        matrix[: spec.emit_from_index] = spec.pad_value
    return matrix
