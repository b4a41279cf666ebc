# mypy: ignore-errors
"""What an op of the fused pass sees, and how it reads its rows and writes its columns.

A unit is up to LANES columns of one op over one source. An op is called with rows lo..hi of a
series, at most TILE of them, and the next call goes on where it stopped; lo == 0 starts a series.
Where the calls are divided must not show in the result. What an op needs from one call to the next
it keeps in floats, ints and kept; work may hold anything before and after. Rows before a column's
lookback are overwritten by the caller, so an op may leave anything there.
"""

from collections import namedtuple

import numpy as np
from numba import types

from tfa_kernels._addressed import AddressedKernel
from tfa_kernels._jit import inline_kernel
from tfa_kernels._lanes_nb import LANES, lane, lanes

TILE = 512
SOURCES = 5
PARAMS = 3
N_FLOATS = 8
N_INTS = 4
N_WORK = 8

# Parts of Unit.shape.
ADDRESS, BEGIN, IN_USE, MEMORY, READS = 0, 1, 2, 3, 4
WINDOWS = READS + SOURCES
COLUMNS = WINDOWS + LANES
SHAPE = COLUMNS + LANES

# rows [sources, ...]: row t of the series is at t - base. shape: address of the op, first row of
# its source, lanes in use, where its part of kept begins, then rows of `rows` that it reads, and
# windows and columns per lane (lanes not in use repeat the last one). params [columns, PARAMS].
# floats [columns, N_FLOATS] and ints [columns, N_INTS]: state of each column. work [N_WORK, TILE].
# out [columns, ...]: row lo of this call is at `at`.
Unit = namedtuple(
    "Unit",
    ("rows", "base", "shape", "params", "floats", "ints", "work", "kept", "out", "at", "legacy"),
)


def _array(dtype, dimensions):
    return types.Array(dtype, dimensions, "C")


UNIT = types.NamedTuple(
    (
        _array(types.float64, 2),
        types.int64,
        _array(types.int64, 1),
        _array(types.float64, 2),
        _array(types.float64, 2),
        _array(types.int64, 2),
        _array(types.float64, 2),
        _array(types.float64, 1),
        _array(types.float32, 2),
        types.int64,
        types.boolean,
    ),
    Unit,
)
SIGNATURE = types.void(UNIT, types.int64, types.int64)


def op_kernel(function):
    """Compile ``function(unit, lo, hi)`` as an op."""
    return AddressedKernel(function, SIGNATURE)


@inline_kernel
def read(u, i, lo, hi):
    """Rows lo..hi of the i-th source; up to Op.history rows before the call's own."""
    return u.rows[u.shape[READS + i], lo - u.base : hi - u.base]


@inline_kernel
def window(u, lane):
    return u.shape[WINDOWS + lane]


@inline_kernel
def column(u, lane):
    return u.shape[COLUMNS + lane]


@inline_kernel
def windows(u):
    """The windows as lanes."""
    return lanes(
        np.float64(window(u, 0)),
        np.float64(window(u, 1)),
        np.float64(window(u, 2)),
        np.float64(window(u, 3)),
    )


@inline_kernel
def states(u, i):
    """State floats[i] of the columns as lanes."""
    f = u.floats
    return lanes(f[column(u, 0), i], f[column(u, 1), i], f[column(u, 2), i], f[column(u, 3), i])


@inline_kernel
def written(u, lane):
    """Where the lane's rows go, row lo first."""
    return u.out[u.shape[COLUMNS + lane], u.at :]


@inline_kernel
def write_lanes(a, b, c, d, i, vector):
    """Element i of the four columns."""
    a[i] = lane(vector, 0)
    b[i] = lane(vector, 1)
    c[i] = lane(vector, 2)
    d[i] = lane(vector, 3)
