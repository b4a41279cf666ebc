"""Vector primitives against the same operations on each number."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfa_kernels._lanes_nb import (
    BLOCK,
    LANES,
    coarse_inverse_roots,
    copy_transposed,
    fma,
    lane,
    lanes,
    negative,
    not_at_least,
    select,
    splat,
    store_rows,
)

numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)
fours = st.lists(numbers, min_size=LANES, max_size=LANES).map(np.array)


@numba.njit(error_model="numpy")
def of(x):
    return lanes(x[0], x[1], x[2], x[3])


@numba.njit(error_model="numpy")
def arithmetic(x, y, z, out):
    a, b, c = of(x), of(y), of(z)
    for k in range(LANES):
        out[0, k] = lane(a + b, k)
        out[1, k] = lane(a - b, k)
        out[2, k] = lane(a * b, k)
        out[3, k] = lane(a / b, k)
        out[4, k] = lane(fma(a, b, c), k)
        out[5, k] = lane(negative(a), k)
        out[6, k] = lane(select(a > b, a, c), k)
        out[7, k] = lane(not_at_least(a, b), k)
        out[8, k] = lane(not_at_least(a, b) | (a > c), k)
        out[9, k] = lane(splat(y[0]), k)


@settings(max_examples=200, deadline=None)
@given(fours, fours, fours)
def test_arithmetic_rounds_lane_by_lane_as_scalars_do(x, y, z):
    out = np.empty((10, LANES))
    arithmetic(x, y, z, out)
    with np.errstate(all="ignore"):
        want = [x + y, x - y, x * y, x / y, None, -x, np.where(x > y, x, z), ~(x >= y)]
        want += [~(x >= y) | (x > z), np.full(LANES, y[0])]
    for row, expected in zip(out, want, strict=True):
        if expected is not None:
            np.testing.assert_array_equal(row, expected)


@pytest.mark.compiled
def test_fma_rounds_once():
    x = np.full(LANES, 1.0 + 2.0**-30)
    out = np.empty((10, LANES))
    arithmetic(x, x, -x * x, out)
    assert (out[4] == 2.0**-60).all()


@numba.njit(error_model="numpy")
def roots(x, out):
    found = coarse_inverse_roots(of(x[0]), of(x[1]), of(x[2]), of(x[3]))
    for i in range(4):
        for k in range(LANES):
            out[i, k] = lane(found[i], k)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
def test_coarse_inverse_roots(scale):
    x = scale * np.random.default_rng(0).random((4, LANES))
    out = np.empty((4, LANES))
    roots(x, out)
    np.testing.assert_array_equal(out, np.float32(1.0) / np.sqrt(x.astype(np.float32)))
    for got, value in zip(out.ravel(), x.ravel(), strict=True):
        assert got == pytest.approx(1.0 / math.sqrt(value), rel=3e-7)


@numba.njit(error_model="numpy")
def store(x, i, a, b, c, d):
    store_rows(a, b, c, d, i, of(x[0]), of(x[1]), of(x[2]), of(x[3]))


def test_rows_are_stored_as_columns_and_nothing_else_is_written():
    x = np.random.default_rng(1).random((4, LANES))
    out = np.full((4, 12), -1.0, np.float32)
    store(x, 5, *out)
    want = np.full((4, 12), -1.0, np.float32)
    want[:, 5:9] = x.T
    np.testing.assert_array_equal(out, want)


@numba.njit(error_model="numpy")
def transpose(source, i, j, out, k, m):
    copy_transposed(source, i, j, out, k, m)


@pytest.mark.parametrize(("i", "j", "k", "m"), [(0, 0, 0, 0), (3, 7, 2, 5), (8, 24, 16, 12)])
def test_a_block_is_transposed_into_part_of_a_wider_matrix(i, j, k, m):
    source = np.random.default_rng(2).random((16, 40), dtype=np.float32)
    whole = np.full((24, 31), -1.0, np.float32)
    want = whole.copy()
    want[:, 4:24][k : k + BLOCK, m : m + BLOCK] = source[i : i + BLOCK, j : j + BLOCK].T
    transpose(source, i, j, whole[:, 4:24], k, m)
    np.testing.assert_array_equal(whole, want)
