"""Every op, convention and source against the naive oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfa_kernels import build_features, reference
from tfa_kernels.ops import CONVENTIONS, OPS

LEGACY_FIRST = {
    "IDENT": lambda w: 0,
    "LOGRET": lambda w: 1,
    "MOMENTUM": lambda w: w,
    "SMA": lambda w: w - 1,
    "EMA": lambda w: 0,
    "RSI": lambda w: w + 1,
    "ZWIN": lambda w: w,
    "SPREAD_BP": lambda w: 0,
    "ROC": lambda w: w,
    "VOLATILITY": lambda w: w,
    "BOLLINGER_MIDDLE": lambda w: w,
    "BOLLINGER_UPPER": lambda w: w,
    "BOLLINGER_LOWER": lambda w: w,
    "MACD_LINE": lambda w: 0,
    "MACD_SIGNAL": lambda w: 0,
    "MACD_HISTOGRAM": lambda w: 0,
    "PARKINSON": lambda w: w - 1,
    "GARMAN_KLASS": lambda w: w - 1,
    "PRICE_IMPACT": lambda w: 1,
    "ORDER_FLOW": lambda w: 0,
    "MARKET_DEPTH": lambda w: 0,
    "BID_ASK_RATIO": lambda w: 0,
    "OBV": lambda w: 0,
    "VPT": lambda w: 0,
    "AD_LINE": lambda w: 0,
    "ATR": lambda w: w,
    "ADX": lambda w: 2 * w,
    "STOCHASTIC_K": lambda w: w,
    "STOCHASTIC_D": lambda w: w + 2,
    "WILLIAMS_R": lambda w: w,
    "MFI": lambda w: w,
    "CCI": lambda w: w,
}

ZERO_WHERE_FLAT = (
    *("ZWIN", "RSI", "MOMENTUM", "SPREAD", "ROC_close", "VOLATILITY", "PARKINSON", "GARMAN"),
    *("PRICE", "ORDER", "MARKET", "BID"),
)


def left_over(name, spec, bars):
    """What rounding, in either, leaves of two equal means taken from each other.

    The mean of w values is off by w roundings at most, and an exponential one goes on with those of
    the (w + 1) / 2 steps that it remembers: 58 for the periods 12 and 26, twice. How many there are
    is not the kernel's alone: ``sum`` of the oracle keeps what rounding drops from Python 3.12 on.
    """
    feature = spec.features[spec.names.index(name)]
    if not feature.op.startswith("MACD") or feature.columns == ("logret",):
        return 1e-25
    source = np.abs(bars[feature.columns[0]])
    return 2 * 58 * 2.0**-53 * source[np.isfinite(source)].max(initial=0.0)


def assert_matches_oracle(bars, spec, **options):
    got = build_features(bars, spec, **options)
    want = reference.build_features(bars, spec)
    assert got.values.dtype == np.float32
    assert got.values.shape == want.shape
    for c, name in enumerate(got.names):
        column = want[:, c]
        finite = np.abs(column[np.isfinite(column)])
        np.testing.assert_allclose(
            got.values[:, c],
            column,
            rtol=3e-7,
            atol=max(1e-7 * finite.max(initial=0.0), left_over(name, spec, bars)),
            err_msg=f"{name} ({spec.convention})",
        )
    return got


@st.composite
def generated_bars(draw):
    rows = draw(st.integers(0, 60))
    level = draw(st.sampled_from([1.0, 350.0, 1e5]))
    steps = draw(st.lists(st.integers(-30, 30), min_size=rows, max_size=rows))
    volume = draw(st.lists(st.integers(0, 10**7), min_size=rows, max_size=rows))
    close = np.maximum(level + np.cumsum(np.array(steps, np.float64)) / 100, 0.01)
    bars = {
        "open": np.concatenate((close[:1], close[:-1])),
        "high": close + 0.02,
        "low": close * 0.999,
        "close": close,
        "volume": np.array(volume, np.float64),
    }
    for at in draw(st.lists(st.integers(0, 59), max_size=2)):
        bad = draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e9]))
        if at < rows:
            bars[draw(st.sampled_from(["close", "volume"]))][at] = bad
    return bars


@pytest.mark.parametrize("convention", CONVENTIONS)
@settings(max_examples=25, deadline=None)
@given(bars=generated_bars(), window=st.integers(1, 70), emit=st.integers(0, 30))
def test_generated_bars(every_op, convention, bars, window, emit):
    spec = every_op(convention, [window], emit_from_index=emit, pad_value=-7.0)
    got = assert_matches_oracle(bars, spec)
    assert (got.values[:emit] == -7.0).all()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_many_tiles(every_op, convention, walk_bars):
    # Lengths around the tile, and windows longer than a tile.
    for rows in (511, 512, 513, 1025, 1600):
        spec = every_op(convention, [2, 20, 600], ["close", "volume", "logret"])
        assert_matches_oracle(walk_bars(rows, seed=rows), spec)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_window_of_one_reads_the_bar_itself(every_op, convention, walk_bars):
    bars = walk_bars(700)
    got = assert_matches_oracle(bars, every_op(convention, [1], ["close"]))
    close = bars["close"].astype(np.float32)
    np.testing.assert_array_equal(got.values[:, got.names.index("SMA_close_1")], close)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_windows_longer_than_the_series(every_op, convention, rows, walk_bars):
    spec = every_op(convention, [1, 20, 2**31 - 1])
    got = assert_matches_oracle(walk_bars(rows), spec)
    empty = np.isnan if convention == "talib" else (lambda v: v == 0)
    assert empty(got.values[:, got.names.index("SMA_close_20")]).all()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_lookbacks_are_the_first_values(every_op, convention, walk_bars):
    bars = walk_bars(300, seed=3)
    spec = every_op(convention, [5, 40], ["close", "logret"], emit_from_index=3, pad_value=9.0)
    plain = every_op(convention, [5, 40], ["close", "logret"])
    got = build_features(bars, plain)
    assert got.first_valid == max(got.lookbacks)
    assert build_features(bars, spec).first_valid == max(got.lookbacks)
    for c, (feature, lookback) in enumerate(zip(plain.features, got.lookbacks, strict=True)):
        before, value = got.values[:lookback, c], got.values[lookback, c]
        if convention == "talib":
            assert np.isnan(before).all() and not np.isnan(value), feature
        else:
            assert lookback == LEGACY_FIRST[feature.op](feature.window), feature
            assert (before == 0).all(), feature


def test_emit_from_index_moves_first_valid(every_op, walk_bars):
    spec = every_op("talib", [5], ["close"], emit_from_index=64)
    got = build_features(walk_bars(100), spec)
    assert got.first_valid == 64
    assert (got.values[:64] == 0).all()
    assert not np.isnan(got.values[64:]).any()


def test_rows_recover_once_a_bad_value_has_left(every_op, walk_bars):
    bars = walk_bars(1200)
    spec = every_op("talib", [10], ["close"])
    clean = build_features(bars, spec).values
    at = 600
    for bad in (np.nan, np.inf, -np.inf, 1e141):
        dirty = {**bars, "close": bars["close"].copy()}
        dirty["close"][at] = bad
        values = build_features(dirty, spec).values
        for op in ("SMA", "ZWIN", "VOLATILITY", "BOLLINGER_UPPER"):
            c = spec.names.index(f"{op}_close_10")
            assert np.isnan(values[at : at + 10, c]).all(), (op, bad)
            # A z-score that is zero but for rounding has no relative accuracy.
            np.testing.assert_allclose(
                values[at + 10 :, c], clean[at + 10 :, c], rtol=1e-6, atol=1e-12
            )


def test_ema_and_rsi_let_a_nan_through(every_op, walk_bars):
    bars = walk_bars(100)
    bars["close"][50] = np.nan
    got = build_features(bars, every_op("legacy", [5], ["close"]))
    for op in ("EMA", "RSI"):
        column = got.values[:, got.names.index(f"{op}_close_5")]
        assert not np.isnan(column[:50]).any()
        assert np.isnan(column[50:]).all()


def test_flat_prices(every_op):
    bars = dict.fromkeys(("open", "high", "low", "close"), np.full(2000, 0.1))
    bars["volume"] = np.zeros(2000)
    for convention in CONVENTIONS:
        spec = every_op(convention, [3, 30], ["close", "volume", "logret"])
        got = assert_matches_oracle(bars, spec)
        for c, name in enumerate(got.names):
            if name.startswith(ZERO_WHERE_FLAT):
                assert (got.values[got.lookbacks[c] :, c] == 0).all(), name
            if name.startswith(("SMA_close", "BOLLINGER")) and "_close_" in name:
                assert (got.values[got.lookbacks[c] :, c] == np.float32(0.1)).all(), name


@pytest.mark.parametrize("op", [op for op, row in OPS.items() if row.window is not None])
def test_columns_do_not_depend_on_the_others_of_their_spec(op, walk_bars):
    # Rows looked back at are kept for the longest window, wherever in the spec it stands.
    bars = walk_bars(4000, seed=2)
    windows = (3, 20, 700, 90, 5)

    def build(*some):
        features = [{"name": str(w), "op": op, "window": w} for w in some]
        return build_features(bars, {"schema_version": "2.0", "features": features}).values

    together = build(*windows)
    for c, w in enumerate(windows):
        assert together[:, c].tobytes() == build(w)[:, 0].tobytes(), w


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("columns", range(1, 10))
def test_any_number_of_columns_side_by_side(every_op, convention, columns, walk_bars):
    # Recursive ops go four columns at a time; each mixes short windows with longer than a tile.
    windows = [3, 600, 14, 1, 50, 5, 21, 513, 2][:columns]
    spec = every_op(convention, windows, ["close", "logret"])
    got = assert_matches_oracle(walk_bars(1100, seed=columns), spec)
    alone = every_op(convention, windows[-1:], ["close", "logret"])
    for name, column in zip(
        alone.names, build_features(walk_bars(1100, seed=columns), alone).values.T, strict=True
    ):
        np.testing.assert_array_equal(got.values[:, got.names.index(name)], column)
