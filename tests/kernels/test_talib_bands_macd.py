"""The "talib" convention against TA-Lib itself, from the first row with a value on."""

from __future__ import annotations

import numpy as np
import pytest

from tfa_kernels import build_features

talib = pytest.importorskip("talib")


def assert_same(bars, wanted):
    """wanted: entry of a feature (without name) and TA-Lib's column, in pairs."""
    features = [{"name": str(i), **entry} for i, (entry, _) in enumerate(wanted)]
    got = build_features(bars, {"schema_version": "2.0", "features": features})
    for c, (entry, column) in enumerate(wanted):
        first = np.flatnonzero(~np.isnan(column))[0]
        assert got.lookbacks[c] == first, entry
        # TA-Lib's variances cancel, and 3e-6 is the root of what is left of 100 squared.
        noise = 3e-6 if entry["op"] in ("VOLATILITY", "BOLLINGER_UPPER", "BOLLINGER_LOWER") else 0
        scale = 1e-7 * np.nanmax(np.abs(column))
        np.testing.assert_allclose(
            got.values[:, c], column, rtol=2e-7, atol=max(noise, scale), err_msg=str(entry)
        )


@pytest.fixture
def bars(walk_bars):
    return walk_bars(2500, seed=11)


@pytest.mark.parametrize("w", [1, 2, 10, 50, 700])
@pytest.mark.parametrize("source", ["close", "volume"])
def test_roc(w, source, bars):
    bars["volume"][100:110] = 0
    entry = {"op": "ROC", "source": source, "window": w}
    assert_same(bars, [(entry, talib.ROC(bars[source], w))])


@pytest.mark.parametrize("w", [2, 5, 20, 700])
@pytest.mark.parametrize("k", [2.0, 0.5])
def test_std_and_bands(w, k, bars):
    close = bars["close"]
    upper, middle, lower = talib.BBANDS(close, w, k, k)
    key = {"window": w, "k": k}
    assert_same(
        bars,
        [
            ({"op": "VOLATILITY", "window": w}, talib.STDDEV(close, w)),
            ({"op": "BOLLINGER_UPPER", **key}, upper),
            ({"op": "BOLLINGER_MIDDLE", **key}, middle),
            ({"op": "BOLLINGER_LOWER", **key}, lower),
        ],
    )


@pytest.mark.parametrize(
    "periods", [(12, 26, 9), (19, 39, 9), (26, 12, 9), (2, 3, 1), (9, 9, 9), (12, 600, 40)]
)
def test_macd(periods, bars):
    keys = dict(zip(("fast", "slow", "signal"), periods, strict=True))
    ops = ("MACD_LINE", "MACD_SIGNAL", "MACD_HISTOGRAM")
    columns = talib.MACD(bars["close"], *periods)
    assert_same(bars, [({"op": op, **keys}, c) for op, c in zip(ops, columns, strict=True)])


def test_macd_begins_at_row_33(bars):
    got = build_features(
        bars, {"schema_version": "2.0", "features": [{"name": "m", "op": "MACD_LINE"}]}
    )
    assert got.lookbacks == (33,)
    assert np.isnan(got.values[:33]).all() and not np.isnan(got.values[33:]).any()
