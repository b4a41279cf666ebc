"""The legacy feature builder's call."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt

from tfa_kernels import SpecError, build_features

__all__ = ["build_features_from_spec"]


def build_features_from_spec(
    symbol: str,
    ts: npt.ArrayLike,
    open: npt.ArrayLike,
    high: npt.ArrayLike,
    low: npt.ArrayLike,
    close: npt.ArrayLike,
    volume: npt.ArrayLike,
    spec_json: str,
) -> npt.NDArray[np.float32]:
    """Features of one series, float32 [N, F], C-contiguous, columns in the order of the spec.

    Schema version "1.0" gives the legacy builder's numbers ("legacy" convention), within the
    rounding of its float32 sums; see `tfa_kernels.build_features`, which this calls.

    Parameters
    ----------
    symbol : name of the series; no feature is made of it.
    ts : [N] times, oldest first, in any unit; no feature is made of them.
    open, high, low, close, volume : [N] numbers each.
    spec_json : the spec itself as JSON text, not a path.

    Raises
    ------
    ValueError, TypeError : columns of different lengths, or of anything but numbers.
    SpecError : text that is no JSON, or a spec that is not valid; the message names the entry.
    """
    if not isinstance(spec_json, (str, bytes)):
        raise TypeError(
            f"spec_json must be JSON text, got {type(spec_json).__name__}; use json.dumps(spec)"
        )
    try:
        spec = json.loads(spec_json)
    except ValueError as error:
        raise SpecError(
            f"spec_json is not valid JSON: {error}; give the text of the spec, "
            "as Path(...).read_text()"
        ) from error
    bars = {
        name: np.asarray(values)
        for name, values in (
            ("open", open), ("high", high), ("low", low), ("close", close), ("volume", volume)
        )
    }  # fmt: skip
    lengths = {name: column.shape for name, column in {"ts": np.asarray(ts), **bars}.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"symbol {symbol!r}: columns differ in shape: {lengths}; give [N] each")
    return build_features(bars, spec).values
