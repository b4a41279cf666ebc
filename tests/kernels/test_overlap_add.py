"""overlap_add against its definition, and everything it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfa_kernels import overlap_add


def naive(windows):
    count, rows, columns = windows.shape
    out = np.zeros((count + rows - 1, columns))
    for w in range(count):
        for t in range(rows):
            out[w + t] += windows[w, t]
    return out


def drawn(count, rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((count, rows, columns), np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_is_the_sum_over_the_windows_of_a_row(count, rows, columns, seed):
    windows = drawn(count, rows, columns, seed)
    got = overlap_add(windows)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, naive(windows), rtol=1e-5, atol=1e-5)


def test_is_the_adjoint_of_cutting_windows():
    rows = np.random.default_rng(1).standard_normal((20, 3))
    cut = np.lib.stride_tricks.sliding_window_view(rows, 6, axis=0).transpose(0, 2, 1)
    windows = drawn(15, 6, 3)
    assert np.isclose((cut * windows).sum(), (rows * overlap_add(windows)).sum())


def test_bits_do_not_depend_on_threads_and_out_is_filled():
    windows = drawn(300, 48, 16)
    one = overlap_add(windows, num_threads=1)
    out = np.full(one.shape, np.nan, np.float32)
    assert overlap_add(windows, out, num_threads=2) is out
    np.testing.assert_array_equal(out, one)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"windows": [[[1.0]]]}, TypeError, "windows must be a numpy array"),
        ({"windows": np.zeros((2, 2, 2))}, TypeError, "windows has dtype float64"),
        ({"windows": drawn(2, 2, 2)[0]}, ValueError, r"windows has shape \(2, 2\)"),
        ({"windows": drawn(0, 2, 2)}, ValueError, r"at least one row is needed"),
        ({"windows": drawn(2, 0, 2)}, ValueError, r"at least one row is needed"),
        ({"windows": drawn(2, 2, 4)[..., ::2]}, ValueError, "windows must be C-contiguous"),
        ({"out": np.zeros((3, 3), "f4")}, ValueError, r"out has shape \(3, 3\), needs \(5, 2\)"),
        ({"num_threads": 1.5}, TypeError, "num_threads"),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        overlap_add(**{"windows": drawn(3, 3, 2)} | arguments)


def test_an_out_over_the_windows_is_refused():
    windows = drawn(3, 3, 2)
    with pytest.raises(ValueError, match="out overlaps windows"):
        overlap_add(windows, windows.reshape(-1)[:10].reshape(5, 2))
