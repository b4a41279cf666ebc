"""CCI: exact sums over windows, whatever rows are taken together and however prices scale."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfa_kernels import _deviation_nb as deviation
from tfa_kernels import build_features, load_spec, reference
from tfa_kernels.ops import CONVENTIONS


def spec_of(convention, *features):
    entries = [{"name": f"{op}_{w}", "op": op, "window": w} for op, w in features]
    return load_spec({"schema_version": "2.0", "convention": convention, "features": entries})


def bars_of(price):
    return {name: np.array(price, np.float64) for name in ("high", "low", "close")}


@settings(max_examples=60, deadline=None)
@given(
    w=st.one_of(st.integers(1, 140), st.integers(500, 800)),
    n=st.integers(1, 600),
    spread=st.sampled_from([1, 40, 2**50]),
    kind=st.sampled_from(["walk", "noise", "trend"]),
    seed=st.integers(0, 9),
)
def test_sums_of_larger(w, n, spread, kind, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-spread, spread + 1, n + w - 1)
    if kind == "walk":
        x = x // w
        x = np.cumsum(x)
    elif kind == "trend":
        x = np.arange(x.size) * (spread // w)
    windows = np.lib.stride_tricks.sliding_window_view(x, w)
    floor = np.array([int(v) for v in windows.mean(axis=1)])
    floor[rng.random(n) < 0.1] = x[0]
    out, guard = np.empty(n, np.int64), 77
    scratch = np.full(2 * w + deviation.SCRATCH + 1, guard)
    deviation.sums_of_larger(x, w, n, floor, out, scratch[:-1])
    np.testing.assert_array_equal(out, np.maximum(windows, floor[:, None]).sum(axis=1))
    assert scratch[-1] == guard


def exact(price, t, w):
    window = [Fraction(float(p)) for p in price[t - w + 1 : t + 1]]
    mean = sum(window) / w
    return float(
        (window[-1] - mean) / (Fraction(15, 1000) * sum(abs(v - mean) for v in window) / w)
    )


def ticks(rows):
    """Closes near 1e5, 0.01 apart, that are their own typical price."""
    raw = 1e5 + np.random.default_rng(0).integers(-1, 2, rows) * 0.01
    return np.array([p for p in raw if (p + p + p) / 3.0 == p])


@pytest.mark.parametrize("w", [5, 100, 600])
def test_high_price_small_ticks_and_a_spike(w):
    price = ticks(2500)
    price[800] = 1e15
    got = build_features(bars_of(price), spec_of("talib", ("CCI", w))).values[:, 0]
    for t in (*range(w - 1, 800, 61), *range(800 + w, len(price), 97)):
        assert got[t] == pytest.approx(exact(price, t, w), rel=1e-6, abs=1e-6), t


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_prices_of_any_scale(convention, walk_bars):
    # Windows whose largest price grows, shrinks, crosses powers of two and is negative or zero.
    rng = np.random.default_rng(3)
    steps = rng.integers(-20, 21, 900) / 100
    price = np.concatenate(
        (128 + steps, 1e-3 * (3 + steps), 1e9 * (2 + steps), np.zeros(200), -64 + steps)
    )
    spec = spec_of(convention, ("CCI", 5), ("CCI", 130), ("CCI", 600))
    got, want = (
        build_features(bars_of(price), spec).values,
        reference.build_features(bars_of(price), spec),
    )
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6 * 100)


def test_a_row_depends_on_its_window_alone(walk_bars):
    bars = walk_bars(2000)
    spec = spec_of("talib", ("CCI", 5), ("CCI", 150), ("CCI", 600))
    whole = build_features(bars, spec).values
    for start in (1, 300, 777):
        later = build_features({name: column[start:] for name, column in bars.items()}, spec)
        np.testing.assert_array_equal(later.values[599:], whole[start + 599 :])


def gappy(bars):
    """Flat stretches, spikes and missing prices, which make rolling sums start anew."""
    bars = {name: column.copy() for name, column in bars.items()}
    for name in ("high", "low", "close"):
        bars[name][300:330] = bars[name][300]
        bars[name][700] *= 1e9
        bars[name][1200] = np.nan
        bars[name][1400:1500] /= 4096
    return bars


@pytest.mark.compiled
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_bits_do_not_depend_on_the_tiling(convention, walk_bars, build_in_chunks):
    windows = [("CCI", w) for w in (1, 5, 64, 128, 300, 600)]
    rolled = [(op, w) for op in ("SMA", "ZWIN", "VOLATILITY") for w in (3, 5, 6, 7, 100)]
    spec = spec_of(convention, *windows, *rolled)
    bars = gappy(walk_bars(2200))
    whole = build_features(bars, spec).values
    for rows in (1, 7, 512, 700):
        chunks = build_in_chunks(bars, spec, rows)
        for c, name in enumerate(spec.names):
            assert chunks[:, c].tobytes() == whole[:, c].tobytes(), (rows, name)


def test_without_jit(run_script):
    run_script(
        """
import numpy as np
from tfa_kernels import build_features, reference
close = 100 + np.cumsum(np.random.default_rng(0).integers(-9, 10, 700)) / 100
bars = {"high": close + 1, "low": close - 1, "close": close}
spec = {"schema_version": "2.0", "features": [
    {"name": str(w), "op": "CCI", "window": w} for w in (5, 130, 520)]}
got, want = build_features(bars, spec).values, reference.build_features(bars, spec)
np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
""",
        {"NUMBA_DISABLE_JIT": "1"},
    )
