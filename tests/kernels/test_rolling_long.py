"""Rolling std over ten million bars of a high price in small ticks, with spikes in between."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from tfa_kernels import build_features

pytestmark = pytest.mark.compiled

ROWS = 10_000_000
# Many: a sum that lost its digits to one may be found out by chance, when it turns negative.
SPIKES = np.arange(1000, 9_990_000, 399_577)
PRICE, TICK = 1e5, 0.01
# Floats between 2**16 and 2**17 are whole numbers of this: the oracle adds integers.
UNIT = 2.0**-36


def exact(window, k):
    """std, and mean + k std, to some 50 digits."""
    values = [int(v) for v in (window / UNIT).tolist()]
    total, w = sum(values), len(values)
    square = w * sum(v * v for v in values) - total * total
    with localcontext() as context:
        context.prec = 80
        unit = Decimal(UNIT) / w
        std = Decimal(square).sqrt() * unit
        return std, total * unit + Decimal(k) * std


@pytest.fixture(scope="module")
def prices():
    x = PRICE + np.random.default_rng(0).integers(-1, 2, ROWS) * TICK
    x[SPIKES] = 1e9
    return x


@pytest.mark.parametrize("w", [20, 1000])
def test_std_is_right_to_1e_9(w, prices):
    rng = np.random.default_rng(1)
    after = [np.arange(s + w, s + w + 40) for s in SPIKES]
    rows = np.concatenate((*after, rng.integers(9_990_000, ROWS, 300)))
    windows = sliding_window_view(prices, w)[rows - w + 1]
    stds = (windows - windows[:, :1]).std(axis=1)
    # With k = -mean / std, mean + k std is small: its float32 shows digits of the std far below
    # those that a float32 std has.
    k = -PRICE / float(np.median(stds))
    features = [
        {"name": "std", "op": "VOLATILITY", "window": w},
        {"name": "digits", "op": "BOLLINGER_UPPER", "window": w, "k": k},
    ]
    got = build_features({"close": prices}, {"schema_version": "2.0", "features": features})
    shown = 0
    for row, window in zip(rows, windows, strict=True):
        std, digits = exact(window, k)
        value, band = got.values[row]
        assert abs(value - np.float32(std)) <= np.spacing(np.float32(std)), row
        step = float(np.spacing(np.float32(abs(digits))))
        if step < 1e-4:
            shown += row < 9_990_000
            # Whatever was rounded to band is at most half a step away from it.
            off = abs(float(Decimal(float(band)) - digits)) + step / 2
            assert off <= 1e-9 * abs(k) * float(std), row
    assert shown >= 50
