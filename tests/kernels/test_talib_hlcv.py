"""The "talib" convention of ops over high, low, close and volume against TA-Lib itself."""

from __future__ import annotations

import numpy as np
import pytest

from tfa_kernels import build_features

talib = pytest.importorskip("talib", minversion="0.8")

# w is the window; every function takes high, low, close, volume.
TALIB = {
    "OBV": lambda h, s, c, v, w: talib.OBV(c, v),
    "AD_LINE": lambda h, s, c, v, w: talib.AD(h, s, c, v),
    "ATR": lambda h, s, c, v, w: talib.ATR(h, s, c, w),
    "ADX": lambda h, s, c, v, w: talib.ADX(h, s, c, w),
    "STOCHASTIC_K": lambda h, s, c, v, w: talib.STOCHF(h, s, c, w, 1)[0],
    "STOCHASTIC_D": lambda h, s, c, v, w: talib.STOCHF(h, s, c, w, 4)[1],
    "WILLIAMS_R": lambda h, s, c, v, w: talib.WILLR(h, s, c, w),
    "MFI": lambda h, s, c, v, w: talib.MFI(h, s, c, v, w),
    "CCI": lambda h, s, c, v, w: talib.CCI(h, s, c, w),
}


def assert_agrees(bars, w, ops=tuple(TALIB)):
    features = []
    for op in ops:
        keys = {} if op in ("OBV", "AD_LINE") else {"window": w}
        keys |= {"d_period": 4} if op == "STOCHASTIC_D" else {}
        features.append({"name": op, "op": op, **keys})
    got = build_features(bars, {"schema_version": "2.0", "features": features}).values
    columns = [bars[name] for name in ("high", "low", "close", "volume")]
    for op, column in zip(ops, got.T, strict=True):
        want = TALIB[op](*columns, w)
        finite = np.abs(want[np.isfinite(want)])
        # NaN rows must be the same: the first value is TA-Lib's first.
        np.testing.assert_allclose(
            column, want, rtol=2e-7, atol=1e-7 * finite.max(initial=0.0), err_msg=f"{op} {w}"
        )


@pytest.mark.parametrize("w", [2, 5, 14, 100, 600])
def test_random_walk(w, walk_bars):
    assert_agrees(walk_bars(2000, seed=w), w)


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_any_price_level(scale, walk_bars):
    bars = walk_bars(400, seed=1)
    scaled = {name: x if name == "volume" else x * scale for name, x in bars.items()}
    assert_agrees(scaled, 7)


def test_sparse_and_tiny_volume(walk_bars):
    bars = walk_bars(400, seed=2)
    for volume in (bars["volume"] % 2, bars["volume"] * 1e-12, np.zeros(400)):
        assert_agrees({**bars, "volume": volume}, 5)


def test_flat_stretch(walk_bars):
    bars = walk_bars(900, seed=3)
    for name in ("high", "low", "close"):
        bars[name][200:500] = bars["close"][199]
    assert_agrees(bars, 5)


def test_prices_that_differ_by_rounding_alone():
    rng = np.random.default_rng(4)
    prices = 100 + rng.integers(-3, 4, (3, 300)) * np.spacing(100.0)
    bars = {
        "high": prices.max(axis=0),
        "low": prices.min(axis=0),
        "close": np.median(prices, axis=0),
        "volume": np.ones(300),
    }
    assert_agrees(bars, 5)
