"""Window maxima, minima and sums over fixed blocks, against each window on its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfa_kernels import _blocks_nb as blocks
from tfa_kernels import build_features


def aggregates(x, m, tile):
    """Maximum, minimum and sum of every window of m rows, tile by tile."""
    out = np.array([x, x, x])
    kept, sums = np.full(2 * m + 2, np.nan), np.full(m + 1, np.nan)
    state = np.full(3, np.nan)
    for lo in range(0, x.size, tile):
        hi = min(lo + tile, x.size)
        blocks.window_extremes(out[0, lo:hi], out[1, lo:hi], lo, hi, m, state, kept)
        blocks.window_sum(out[2, lo:hi], lo, hi, m, state[2:], sums)
    return out[:, m - 1 :]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=90), st.integers(1, 40), st.integers(1, 50)
)
def test_every_window_and_tiling(values, m, tile):
    x = np.array(values, np.float64)
    if m > x.size:
        return
    windows = np.lib.stride_tricks.sliding_window_view(x, m)
    want = [windows.max(axis=1), windows.min(axis=1), windows.sum(axis=1)]
    np.testing.assert_array_equal(aggregates(x, m, tile), want)


@pytest.mark.parametrize("m", [1, 2, 7, 100, 700])
def test_bits_do_not_depend_on_the_tiling(m):
    x = np.random.default_rng(m).normal(size=2000)
    runs = [aggregates(x, m, tile) for tile in (1, 13, 512, 2000)]
    assert all(run.tobytes() == runs[0].tobytes() for run in runs)


@pytest.mark.parametrize("m", [1, 2, 20, 300])
@pytest.mark.parametrize("spike", [1e30, -1e300, np.nan, np.inf])
def test_nothing_is_left_of_a_value_that_has_left(m, spike):
    x = np.random.default_rng(0).normal(size=1500)
    x[600] = spike
    got = aggregates(x, m, 512)[2]
    for end in [*range(m - 1, 600, 31), *range(600 + m, 1500, 31)]:
        assert got[end - m + 1] == pytest.approx(
            math.fsum(x[end - m + 1 : end + 1]), rel=1e-12, abs=1e-12
        )


def mfi(bars, w, convention):
    features = [{"name": "mfi", "op": "MFI", "window": w}]
    spec = {"schema_version": "2.0", "convention": convention, "features": features}
    return build_features(bars, spec).values[:, 0]


@pytest.mark.parametrize("w", [3, 50])
def test_money_flow_forgets_a_huge_volume(w, walk_bars):
    # Rounding left of 1e30 would be larger than every other bar's flow.
    bars = walk_bars(400)
    clean = mfi(bars, w, "talib")
    bars["volume"] = bars["volume"].copy()
    bars["volume"][100] = 1e30
    np.testing.assert_array_equal(mfi(bars, w, "talib")[100 + w :], clean[100 + w :])


def test_money_flow_without_a_fall_is_exact(walk_bars):
    # "legacy" gives 0 where nothing falls: rounding left of a fall would turn it into 100.
    bars = walk_bars(400)
    bars["close"][200:] = np.linspace(100, 130, 200)
    bars["high"][200:] = bars["low"][200:] = bars["close"][200:]
    assert (mfi(bars, 10, "legacy")[211:] == 0).all()
    assert (mfi(bars, 10, "talib")[211:] == 100).all()


def test_rows_recover_once_a_bad_value_has_left(walk_bars):
    bars, w, at = walk_bars(900), 10, 600
    windowed = ("STOCHASTIC_K", "STOCHASTIC_D", "WILLIAMS_R", "MFI", "CCI")
    features = [{"name": op, "op": op, "window": w} for op in (*windowed, "ATR", "ADX")]
    features += [{"name": op, "op": op} for op in ("OBV", "VPT", "AD_LINE")]
    spec = {"schema_version": "2.0", "features": features}
    clean = build_features(bars, spec).values
    for bad in (np.nan, np.inf, -np.inf):
        dirty = {**bars, "high": bars["high"].copy(), "volume": bars["volume"].copy()}
        dirty["high"][at] = dirty["volume"][at] = bad
        values = build_features(dirty, spec).values
        for c, feature in enumerate(features):
            # MFI also needs the price before the window, %D the windows of three rows.
            rows = {"STOCHASTIC_D": w + 2, "MFI": w + 1}.get(feature["op"], w)
            np.testing.assert_array_equal(values[:at, c], clean[:at, c])
            if feature["op"] in windowed:
                assert np.isnan(values[at : at + rows, c]).all(), (feature, bad)
                np.testing.assert_allclose(values[at + rows :, c], clean[at + rows :, c], rtol=1e-6)
            elif bad != -np.inf:  # a high below the low adds nothing to AD_LINE
                assert not np.isfinite(values[at + 1 :, c]).any(), (feature, bad)
