"""Rolling moments against exact rational arithmetic, where running sums go wrong."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tfa_kernels import _op_nb as nb
from tfa_kernels import _rolling_nb as rolling


def moments(x, w):
    """Mean, distance and squares of every row, tile by tile as the feature kernel does."""
    out = np.empty((3, x.size))
    floats, ints = np.zeros(nb.N_FLOATS), np.zeros(nb.N_INTS, np.int64)
    for lo in range(0, x.size, nb.TILE):
        hi = min(lo + nb.TILE, x.size)
        work = np.empty((nb.N_WORK, nb.TILE))
        rolling.roll(x, 0, lo, hi, w, floats, ints, work)
        out[:, lo:hi] = work[:3, : hi - lo]
    return out


def exact(x, t, w):
    window = [Fraction(float(v)) for v in x[t - w + 1 : t + 1]]
    mean = sum(window) / w
    return mean, Fraction(float(x[t])) - mean, sum((v - mean) ** 2 for v in window)


def assert_exact(x, w, rows, bound=1e-9):
    got = moments(x, w)
    for t in rows:
        mean, distance, squares = exact(x, t, w)
        std = float(squares / w) ** 0.5
        assert abs(got[0, t] - float(mean)) <= 1e-15 * abs(float(mean)) + bound * std, t
        assert abs(got[1, t] - float(distance)) <= bound * std, t
        assert (got[2, t] / w) ** 0.5 == pytest.approx(std, rel=bound, abs=0), t


def ticks(rows, seed=0):
    return 1e5 + np.random.default_rng(seed).integers(-1, 2, rows) * 0.01


@pytest.mark.parametrize("w", [2, 5, 20, 300])
def test_high_price_small_ticks(w):
    assert_exact(ticks(3000), w, range(w - 1, 3000, 97))


@pytest.mark.parametrize("w", [2, 20, 300])
@pytest.mark.parametrize("spike", [1e9, -1e9, 1e30])
def test_after_a_spike_has_left(w, spike):
    x = ticks(1500)
    at = 700
    x[at] = spike
    got = moments(x, w)
    clean = moments(np.delete(x, at), w)
    np.testing.assert_allclose(got[:, at + w :], clean[:, at + w - 1 :], rtol=1e-9, atol=1e-9)
    assert_exact(x, w, range(at + w, 1500, 53))


def test_level_shift_and_trend():
    x = np.concatenate((ticks(600), ticks(600) * 1e-4, 50 + np.arange(900) * 0.01))
    for w in (3, 20, 100):
        rows = [t for t in range(w - 1, x.size, 41) if not 1199 < t < 1200 + w]
        assert_exact(x, w, rows)


def test_shrinking_amplitude():
    # 1e12 down to 1e-12: every window is small against what went through the sums before.
    x = np.array([(-1) ** t * 10.0 ** (12 - t / 50) for t in range(1200)])
    for w in (4, 32):
        assert_exact(x, w, range(w - 1, 1200, 29))


def test_long_run_does_not_drift():
    x = ticks(200_000) + np.cumsum(np.random.default_rng(1).integers(-1, 2, 200_000)) * 0.01
    for w in (20, 5000):
        assert_exact(x, w, [199_999, 150_001, 199_000 // w * w])


def test_bars_after_the_fixed_reseed_do_not_depend_on_the_past():
    # The sums are rebuilt at fixed rows, so an early difference is gone to the last bit.
    x, w = ticks(3 * rolling.RESEED_ROWS), 20
    other = x.copy()
    other[5] += 0.37
    a, b = moments(x, w), moments(other, w)
    assert (a[:, w + 5 : rolling.RESEED_ROWS] != b[:, w + 5 : rolling.RESEED_ROWS]).any()
    assert np.array_equal(a[:, rolling.RESEED_ROWS :], b[:, rolling.RESEED_ROWS :])


def test_flat_windows_are_exactly_zero():
    x = np.concatenate((ticks(100), np.full(500, 0.1), ticks(100)))
    got = moments(x, 20)
    assert (got[1:, 119:600] == 0).all()
    assert (got[0, 119:600] == 0.1).all()


@pytest.mark.compiled
@pytest.mark.parametrize("w", [2, 20, 300])
def test_rebuilding_stays_amortised(w, monkeypatch):
    # A rebuild costs about 2 w steps: all of them together must stay within a few steps per row.
    rows = 3000
    rng = np.random.default_rng(2)
    series = {
        "flat": np.full(rows, 0.1),
        "flat after moves": np.concatenate((ticks(rows // 2), np.full(rows // 2, 0.1))),
        "one ulp": np.where(rng.random(rows) < 0.5, 0.1, np.nextafter(0.1, 1)),
        "rare ticks": 100 + np.cumsum(rng.random(rows) < 0.01) * 0.01,
        "trend": 100 + np.arange(rows) * 0.01,
        "walk": 1e5 + np.cumsum(rng.integers(-1, 2, rows)) * 0.01,
        "spikes": np.where(np.arange(rows) % (w + 1) == 0, 1e9, ticks(rows)),
        "gaps": np.where(np.arange(rows) % (w + 1) == 0, np.nan, ticks(rows)),
    }
    calls = []

    def counted(x, i, w):
        calls.append(i)
        return nb_reseed(x, i, w)

    nb_reseed = rolling.reseed
    monkeypatch.setattr(rolling, "reseed", counted)
    monkeypatch.setattr(rolling, "_rows", rolling._rows.py_func)
    monkeypatch.setattr(rolling, "fma", lambda a, b, c: a * b + c)
    for name, x in series.items():
        calls.clear()
        floats, ints = np.zeros(nb.N_FLOATS), np.zeros(nb.N_INTS, np.int64)
        rolling.roll.py_func(x, 0, 0, rows, w, floats, ints, np.empty((nb.N_WORK, rows)))
        assert 0 < len(calls) * w <= 2 * rows + 2 * w, (name, len(calls))
