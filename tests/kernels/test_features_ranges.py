"""Ops of a bar's range and volume where the bar lacks one: zero, flat, missing, out of order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfa_kernels import build_features, load_spec, reference
from tfa_kernels.ops import CONVENTIONS

ROLLING = ("PARKINSON", "GARMAN_KLASS")
SINGLE = ("PRICE_IMPACT", "ORDER_FLOW", "MARKET_DEPTH", "BID_ASK_RATIO")
ODD = (0.0, 1e-9, 1e-8, 1.0, 7.0, 50.0, -3.0, math.nan, math.inf, -math.inf)


def spec_of(convention, ops, window=None):
    entries = [{"name": op, "op": op} for op in ops]
    if window is not None:
        entries = [{**entry, "window": window} for entry in entries]
    return load_spec({"schema_version": "2.0", "convention": convention, "features": entries})


def assert_matches_oracle(bars, spec):
    got, want = build_features(bars, spec).values, reference.build_features(bars, spec)
    with np.errstate(over="ignore"):
        want = want.astype(np.float32)
    for c, name in enumerate(spec.names):
        scale = np.abs(want[np.isfinite(want[:, c]), c]).max(initial=0.0)
        np.testing.assert_allclose(
            got[:, c], want[:, c], rtol=3e-7, atol=1e-7 * float(scale), err_msg=name
        )
    return got


@st.composite
def odd_bars(draw):
    """Bars whose five columns know nothing of each other, one value in five an odd one."""
    rows = draw(st.integers(0, 40))
    ticks = st.integers(9_990, 10_010).map(lambda v: v / 100)
    value = st.one_of(ticks, ticks, ticks, ticks, st.sampled_from(ODD))
    column = st.lists(value, min_size=rows, max_size=rows).map(lambda v: np.array(v, np.float64))
    return {name: draw(column) for name in ("open", "high", "low", "close", "volume")}


@pytest.mark.parametrize("convention", CONVENTIONS)
@settings(max_examples=60, deadline=None)
@given(bars=odd_bars(), window=st.integers(1, 12))
def test_odd_bars(convention, bars, window):
    assert_matches_oracle(bars, spec_of(convention, SINGLE))
    assert_matches_oracle(bars, spec_of(convention, ROLLING, window))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_nothing_to_divide_by_gives_zero(convention):
    bars = {
        "open": np.full(4, 5.0),
        "high": np.array([5.0, 5.0, 6.0, 6.0]),
        "low": np.array([5.0, 5.0, 4.0, 4.0]),
        "close": np.array([5.0, 0.0, 6.0, 5.0]),
        "volume": np.array([9.0, 9.0, 9.0, 0.0]),
    }
    got = build_features(bars, spec_of(convention, SINGLE)).values[1:]
    impact, flow, depth, ratio = got.T
    np.testing.assert_allclose(impact, [1e6 / 3, 0, 0], rtol=1e-7)
    np.testing.assert_array_equal(flow, [0, 9, 0])
    np.testing.assert_allclose(depth, [0, 2 / math.log(10), 0], rtol=1e-7)
    np.testing.assert_allclose(ratio, [0, 1e8, 1], rtol=1e-6)


def test_the_legacy_ratio_is_computed_in_float32(walk_bars):
    bars = walk_bars(3000)
    spec = spec_of("legacy", ("BID_ASK_RATIO",))
    high, low, close = (bars[n].astype(np.float32) for n in ("high", "low", "close"))
    extent = high - low
    with np.errstate(all="ignore"):
        place = (close - low) / extent
        ratio = place / (np.float32(1) - place + np.float32(1e-8))
    want = np.where(extent > 1e-8, ratio, 0)
    assert want.dtype == np.float32
    np.testing.assert_array_equal(build_features(bars, spec).values[:, 0], want)


def test_first_bar_of_a_series_counts_in_talib_alone(walk_bars):
    bars = {name: np.repeat(column, 2) for name, column in walk_bars(2, seed=4).items()}
    bars["high"] = np.full(4, 4.0)
    bars["low"] = np.full(4, 2.0)
    bars["close"] = bars["open"] = np.full(4, 3.0)
    bars["symbol"] = np.array(["a", "a", "b", "b"])
    term = math.log(2) ** 2 / 2
    legacy = build_features(bars, spec_of("legacy", ("GARMAN_KLASS",), 2)).values[:, 0]
    talib = build_features(bars, spec_of("talib", ("GARMAN_KLASS",), 2)).values[:, 0]
    np.testing.assert_allclose(legacy, [0, math.sqrt(term / 2)] * 2, rtol=1e-7)
    np.testing.assert_allclose(talib, [math.nan, math.sqrt(term)] * 2, rtol=1e-7)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("column", ["high", "low"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_range_volatility_recovers(convention, column, bad, walk_bars):
    bars = walk_bars(1200)
    spec = spec_of(convention, ROLLING, 10)
    clean = build_features(bars, spec).values
    at = 507
    bars[column][at] = bad
    values = build_features(bars, spec).values
    assert np.isnan(values[at : at + 10]).all()
    np.testing.assert_array_equal(values[:at], clean[:at])
    np.testing.assert_allclose(values[at + 10 :], clean[at + 10 :], rtol=1e-6)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_wide_ranges_leave_nothing_behind(convention):
    # A square root shows the square root of what a running sum leaves.
    rows = 3000
    close = np.full(rows, 100.0)
    bars = {"open": close, "close": close, "low": close, "high": close.copy()}
    bars["high"][100:200] = 1e9
    bars["high"][1000::40] += 1e-6
    got = assert_matches_oracle(bars, spec_of(convention, ROLLING, 20))
    assert (got[220:1000] == 0).all()


def test_odd_bars_without_jit(run_script):
    run_script(
        """
import numpy as np
from tfa_kernels import build_features, reference
rng = np.random.default_rng(0)
odd = np.array([0.0, -3.0, np.nan, np.inf, 5.0, 6.0, 7.0, 8.0])
bars = {n: rng.choice(odd, 60) for n in ("open", "high", "low", "close", "volume")}
ops = ("PARKINSON", "GARMAN_KLASS", "PRICE_IMPACT", "ORDER_FLOW", "MARKET_DEPTH", "BID_ASK_RATIO",
       "ROC", "VOLATILITY", "BOLLINGER_UPPER", "MACD_SIGNAL")
for convention in ("legacy", "talib"):
    spec = {"schema_version": "2.0", "convention": convention,
            "features": [{"name": op, "op": op} for op in ops]}
    got, want = build_features(bars, spec).values, reference.build_features(bars, spec)
    np.testing.assert_allclose(got, want.astype(np.float32), rtol=1e-6, atol=1e-6)
""",
        {"NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore"},
    )
