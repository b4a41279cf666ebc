"""Ops with keys of their own (k; fast, slow, signal) against the oracle, at any value of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tfa_kernels import SpecError, build_features, load_spec, reference
from tfa_kernels.ops import CONVENTIONS

BANDS = ("BOLLINGER_MIDDLE", "BOLLINGER_UPPER", "BOLLINGER_LOWER")
MACD = ("MACD_LINE", "MACD_SIGNAL", "MACD_HISTOGRAM")
HUGE = 2**31 - 1


def spec_of(convention, ops, **keys):
    features = [
        {"name": f"{op} {source}", "op": op, "source": source, **keys}
        for op in ops
        for source in ("close", "logret")
    ]
    return load_spec({"schema_version": "2.0", "convention": convention, "features": features})


def assert_matches_oracle(bars, spec):
    got, want = build_features(bars, spec), reference.build_features(bars, spec)
    for c, name in enumerate(got.names):
        column = want[:, c]
        scale = np.abs(column[np.isfinite(column)]).max(initial=0.0)
        np.testing.assert_allclose(
            got.values[:, c], column, rtol=3e-7, atol=1e-7 * scale, err_msg=name
        )
    return got


@pytest.mark.parametrize("convention", CONVENTIONS)
@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(0, 700),
    fast=st.integers(1, 60),
    slow=st.integers(1, 600),
    signal=st.integers(1, 60),
)
@example(rows=60, fast=40, slow=7, signal=3)
@example(rows=60, fast=9, slow=9, signal=9)
@example(rows=60, fast=1, slow=1, signal=1)
@example(rows=33, fast=12, slow=26, signal=9)
@example(rows=34, fast=12, slow=26, signal=9)
@example(rows=40, fast=HUGE, slow=HUGE, signal=HUGE)
def test_macd_periods(convention, walk_bars, rows, fast, slow, signal):
    spec = spec_of(convention, MACD, fast=fast, slow=slow, signal=signal)
    got = assert_matches_oracle(walk_bars(rows, seed=rows), spec)
    first = 0 if convention == "legacy" else max(fast, slow) + signal - 2
    assert got.lookbacks[::2] == (first,) * 3


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("k", [0, 0.5, 2, -1.5, 1e6])
def test_band_widths(convention, k, walk_bars):
    assert_matches_oracle(walk_bars(600), spec_of(convention, BANDS, window=20, k=k))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_defaults(convention, walk_bars):
    bars = walk_bars(200)
    for ops, keys in (
        (BANDS, {"window": 20, "k": 2}),
        (MACD, {"fast": 12, "slow": 26, "signal": 9}),
    ):
        plain, given = spec_of(convention, ops), spec_of(convention, ops, **keys)
        assert plain.hash == given.hash
        values = build_features(bars, given).values
        np.testing.assert_array_equal(build_features(bars, plain).values, values)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_macd_of_one_source_are_one_set(convention, walk_bars):
    got = build_features(walk_bars(600), spec_of(convention, MACD)).values[40:, ::2]
    line, signal, histogram = got.astype(np.float64).T
    assert np.abs(line).min() > 0
    np.testing.assert_allclose(line - signal, histogram, rtol=0, atol=1e-6)


def test_the_legacy_band_is_as_wide_as_the_window_before(walk_bars):
    bars = walk_bars(60)
    bars["close"][:] = 50.0
    bars["close"][40] = 60.0
    spec = spec_of("legacy", (*BANDS, "VOLATILITY"), window=5)
    middle, upper, lower, std = build_features(bars, spec).values[:, ::2].T
    assert middle[40] == 52 and upper[40] == lower[40] == 52 and std[40] == 0
    assert std[41] == std[45] == 4 and std[46] == 0
    assert upper[41] == 60 and lower[41] == 44


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_bands_recover_and_macd_stays_bad(convention, walk_bars):
    bars = walk_bars(700)
    bands = spec_of(convention, BANDS, window=10)
    clean = build_features(bars, bands).values
    at = 508
    bars["close"][at] = np.nan
    values = build_features(bars, bands).values[:, ::2]
    # The legacy std looks one bar further back than the mean.
    left = at + (11 if convention == "legacy" else 10)
    assert np.isnan(values[at : at + 10, 0]).all() and np.isnan(values[left - 1, 1:]).all()
    np.testing.assert_allclose(values[left:], clean[left:, ::2], rtol=1e-6)
    values = build_features(bars, spec_of(convention, MACD)).values
    assert not np.isnan(values[40:at]).any() and np.isnan(values[at:]).all()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"op": "MACD_LINE", "fast": 0}, "fast is 0; allowed: 1"),
        ({"op": "MACD_LINE", "slow": 2.5}, "slow must be an integer"),
        ({"op": "MACD_LINE", "window": 3}, "unknown key 'window' for op MACD_LINE"),
        ({"op": "BOLLINGER_UPPER", "k": float("inf")}, "k must be a finite number"),
        ({"op": "BOLLINGER_UPPER", "k": "2"}, "k must be a finite number"),
        ({"op": "BOLLINGER_UPPER", "signal": 2}, "unknown key 'signal'"),
    ],
)
def test_bad_keys_are_named(entry, message):
    with pytest.raises(SpecError, match=message):
        load_spec({"schema_version": "2.0", "features": [{"name": "x", **entry}]})
