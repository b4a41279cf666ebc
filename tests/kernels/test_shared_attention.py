"""Attention in windows that share their rows, against the oracle on copies of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.test_window_attention import assert_close
from tfa_kernels import (
    reference_attention,
    shared_attention,
    shared_attention_gradient,
    window_attention,
)


def drawn(windows, T, heads, width, seed=0):
    rng = np.random.default_rng(seed)
    d = heads * width
    rows = rng.standard_normal((windows + T - 1, 3 * d), np.float32)
    return rows, rng.standard_normal((windows, T, d), np.float32)


def copies(rows, T):
    return np.stack([rows[first : first + T] for first in range(len(rows) - T + 1)])


def summed(of_windows, rows):
    out = np.zeros(rows.shape)
    for first, window in enumerate(of_windows):
        out[first : first + len(window)] += window
    return out


@settings(max_examples=60, deadline=None)
@given(
    windows=st.integers(1, 5),
    T=st.integers(1, 20),
    heads=st.integers(1, 3),
    width=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_matches_oracle(windows, T, heads, width, seed):
    rows, gradient = drawn(windows, T, heads, width, seed)
    want = reference_attention.window_attention(copies(rows, T), heads)
    assert_close(shared_attention(rows, T, heads), want)
    want = reference_attention.window_attention_gradient(gradient, copies(rows, T), heads)
    assert_close(shared_attention_gradient(gradient, rows, heads), summed(want, rows))


@pytest.mark.parametrize(("T", "heads", "width"), [(48, 8, 16), (7, 2, 5)])
def test_many_groups_of_windows(T, heads, width):
    """Rows of windows that several threads have, and the same bits for any number of them."""
    rows, gradient = drawn(300, T, heads, width)
    one = shared_attention(rows, T, heads, num_threads=1)
    np.testing.assert_array_equal(one, window_attention(copies(rows, T), heads))
    np.testing.assert_array_equal(shared_attention(rows, T, heads, num_threads=2), one)
    back = shared_attention_gradient(gradient, rows, heads, num_threads=1)
    np.testing.assert_array_equal(
        shared_attention_gradient(gradient, rows, heads, num_threads=2), back
    )
    few = slice(140, 145)
    alone = reference_attention.window_attention_gradient(
        gradient[few], copies(rows, T)[few], heads
    )
    only = np.zeros_like(gradient)
    only[few] = gradient[few]
    got = shared_attention_gradient(only, rows, heads)
    assert_close(got[140 : 144 + T], summed(alone, rows[140 : 144 + T]))
    assert not got[:140].any() and not got[144 + T :].any()


ROWS, GRADIENT = drawn(3, 6, 2, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rows": ROWS.tolist()}, TypeError, "rows must be a numpy array, got list"),
        ({"rows": ROWS.astype("f8")}, TypeError, "rows has dtype float64, needs float32"),
        ({"rows": ROWS[None]}, ValueError, r"rows has shape \(1, 8, 24\)"),
        ({"rows": ROWS[:, :23].copy()}, ValueError, "rows has 23 columns; a multiple of 3"),
        ({"rows": ROWS[:, ::-1]}, ValueError, "rows must be C-contiguous"),
        ({"window": 0}, ValueError, "window is 0; 1 to 8 is needed"),
        ({"window": 9}, ValueError, "window is 9; 1 to 8 is needed"),
        ({"window": 2.0}, TypeError, "window must be an int, got 2.0"),
        ({"window": True}, TypeError, "window must be an int, got True"),
        ({"heads": 3}, ValueError, "heads is 3; a divisor of d = 8"),
        ({"num_threads": 0}, ValueError, "num_threads is 0"),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        shared_attention(**{"rows": ROWS, "window": 6, "heads": 2} | arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"gradient": None}, TypeError, "gradient must be a numpy array"),
        ({"gradient": GRADIENT[:2]}, ValueError, r"gradient has shape \(2, 6, 8\), needs"),
        ({"gradient": GRADIENT[:, :0]}, ValueError, r"gradient has shape \(3, 0, 8\), needs"),
        ({"gradient": GRADIENT[..., :4].copy()}, ValueError, r"gradient has shape \(3, 6, 4\)"),
        ({"rows": ROWS[0]}, ValueError, r"rows has shape \(24,\)"),
        ({"heads": 5}, ValueError, "heads is 5"),
        ({"num_threads": 0}, ValueError, "num_threads is 0"),
    ],
)
def test_the_gradient_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        shared_attention_gradient(**{"gradient": GRADIENT, "rows": ROWS, "heads": 2} | arguments)
