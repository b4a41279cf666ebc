"""Four rolling columns side by side: the sums of each are those it has alone, to the last bit."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from tfa_kernels import _op_nb as op
from tfa_kernels import _rolling_nb as rolling
from tfa_kernels import build_features
from tfa_kernels._addressed import call_address
from tfa_kernels.ops import OPS


@numba.njit
def call(address, rows, shape, params, floats, ints, work, kept, out, lo, hi):
    unit = op.Unit(rows, 0, shape, params, floats, ints, work, kept, out, 0, False)
    call_address(address, unit, lo, hi)


def states_of(name, x, windows, tile):
    """floats of the columns after each call, calls being of `tile` rows."""
    shape = np.zeros(op.SHAPE, np.int64)
    shape[op.IN_USE] = len(windows)
    padded = list(windows) + [windows[-1]] * (op.LANES - len(windows))
    shape[op.WINDOWS : op.COLUMNS] = padded
    shape[op.COLUMNS :] = np.minimum(np.arange(op.LANES), len(windows) - 1)
    floats = np.zeros((op.LANES, op.N_FLOATS))
    ints = np.zeros((op.LANES, op.N_INTS), np.int64)
    work, out = np.zeros((op.N_WORK, op.TILE)), np.zeros((op.LANES, op.TILE), np.float32)
    params, kept, states = np.zeros((op.LANES, op.PARAMS)), np.zeros(1), []
    for lo in range(0, x.size, tile):
        hi = min(lo + tile, x.size)
        address = OPS[name].kernel.address
        call(address, x[None], shape, params, floats, ints, work, kept, out, lo, hi)
        states.append(floats[: len(windows), :4].copy())
    return states


def states_alone(x, w, tile):
    floats, ints = np.zeros(op.N_FLOATS), np.zeros(op.N_INTS, np.int64)
    work, states = np.zeros((op.N_WORK, op.TILE)), []
    for lo in range(0, x.size, tile):
        rolling.roll(x, 0, lo, min(lo + tile, x.size), w, floats, ints, work)
        states.append(floats[:4].copy())
    return states


@pytest.mark.parametrize("name", ["SMA", "ZWIN"])
@pytest.mark.parametrize("tile", [1, 7, 512])
@pytest.mark.parametrize("windows", [(5, 20, 61, 300), (3,), (700, 2)])
def test_sums_side_by_side_and_alone(name, tile, windows):
    rng = np.random.default_rng(0)
    x = 100 + np.cumsum(rng.integers(-20, 21, 2500)) * 0.01
    x[1200:1260] = x[1200]
    x[1700] = 1e9
    together = states_of(name, x, windows, tile)
    for c, w in enumerate(windows):
        alone = states_alone(x, w, tile)
        for k, (a, b) in enumerate(zip(together, alone, strict=True)):
            assert a[c].tobytes() == b.tobytes(), (w, k * tile)


@pytest.mark.parametrize("scale", [1e-30, 1e17, 1e19, 1e30])
def test_scores_do_not_depend_on_the_unit_of_the_price(scale):
    x = 100 + np.cumsum(np.random.default_rng(3).integers(-20, 21, 1500)) * 0.01
    features = [{"name": f"z{w}", "op": "ZWIN", "window": w} for w in (4, 20, 50, 300, 21)]
    spec = {"schema_version": "2.0", "features": features}
    want = build_features({"close": x}, spec).values
    got = build_features({"close": x * scale}, spec).values
    if scale < 1e-20:  # a standard deviation of at most 1e-8 has the score 0
        want = np.where(np.isnan(want), want, 0.0)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
