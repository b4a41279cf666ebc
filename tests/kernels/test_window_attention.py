"""Attention inside windows against the oracle, and everything it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfa_kernels import reference_attention, window_attention, window_attention_gradient

EPS = np.finfo(np.float32).eps


def drawn(windows, rows, heads, width, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    d = heads * width
    qkv = rng.standard_normal((windows, rows, 3 * d), np.float32) * np.float32(scale)
    return qkv, rng.standard_normal((windows, rows, d), np.float32)


def assert_close(got, want):
    """Within the rounding of float32, of scores up to some tens that a power is taken of."""
    assert got.dtype == np.float32
    assert np.abs(got - want).max(initial=0.0) <= 100 * EPS * np.abs(want).max(initial=1.0)


@settings(max_examples=60, deadline=None)
@given(
    windows=st.integers(0, 3),
    rows=st.integers(1, 20),
    heads=st.integers(1, 3),
    width=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.0, 1.0, 4.0]),
)
def test_matches_oracle(windows, rows, heads, width, seed, scale):
    qkv, gradient = drawn(windows, rows, heads, width, seed, scale)
    assert_close(window_attention(qkv, heads), reference_attention.window_attention(qkv, heads))
    assert_close(
        window_attention_gradient(gradient, qkv, heads),
        reference_attention.window_attention_gradient(gradient, qkv, heads),
    )


@pytest.mark.parametrize(("rows", "heads", "width"), [(48, 8, 16), (32, 4, 24), (129, 1, 64)])
def test_matches_oracle_at_usual_sizes(rows, heads, width):
    qkv, gradient = drawn(1, rows, heads, width)
    assert_close(window_attention(qkv, heads), reference_attention.window_attention(qkv, heads))
    assert_close(
        window_attention_gradient(gradient, qkv, heads),
        reference_attention.window_attention_gradient(gradient, qkv, heads),
    )


def test_far_apart_scores_are_all_of_the_largest():
    """Scores of thousands: only their differences count."""
    qkv, _ = drawn(2, 9, 2, 4, scale=200.0)
    assert_close(window_attention(qkv, 2), reference_attention.window_attention(qkv, 2))


def test_a_nan_stays_in_its_head_and_window():
    qkv, gradient = drawn(3, 10, 2, 4)
    clean = window_attention(qkv, 2), window_attention_gradient(gradient, qkv, 2)
    qkv[1, 3, 5] = np.nan
    got = window_attention(qkv, 2), window_attention_gradient(gradient, qkv, 2)
    assert np.isnan(got[0][1, 3, 4:]).all()
    for a, b, heads in zip(got, clean, (2, 6), strict=True):
        spoilt = np.zeros(a.shape, bool)
        # Head 1 of 2, in each of the parts of d = 8 columns.
        spoilt.reshape(3, 10, heads // 2, 2, 4)[1, :, :, 1] = True
        np.testing.assert_array_equal(a[~spoilt], b[~spoilt])


def test_bits_do_not_depend_on_threads_or_on_the_other_windows():
    qkv, gradient = drawn(70, 12, 2, 8)
    one = window_attention(qkv, 2, num_threads=1)
    back = window_attention_gradient(gradient, qkv, 2, num_threads=1)
    np.testing.assert_array_equal(window_attention(qkv, 2, num_threads=2), one)
    np.testing.assert_array_equal(window_attention_gradient(gradient, qkv, 2, num_threads=2), back)
    np.testing.assert_array_equal(window_attention(qkv[69:], 2), one[69:])
    np.testing.assert_array_equal(window_attention_gradient(gradient[69:], qkv[69:], 2), back[69:])


def test_out_is_filled_and_returned_and_nothing_beside_it():
    qkv, gradient = drawn(2, 7, 1, 5)
    room = np.full((2 * 7 * 15 + 2), -1, np.float32)
    out = room[1:-1].reshape(qkv.shape)
    assert window_attention_gradient(gradient, qkv, 1, out) is out
    np.testing.assert_array_equal(out, window_attention_gradient(gradient, qkv, 1))
    room = np.full((2 * 7 * 5 + 2), -1, np.float32)
    out = room[1:-1].reshape(gradient.shape)
    assert window_attention(qkv, 1, out) is out
    np.testing.assert_array_equal(out, window_attention(qkv, 1))
    assert room[0] == room[-1] == -1


QKV, GRADIENT = drawn(2, 6, 2, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"qkv": QKV.tolist()}, TypeError, "qkv must be a numpy array, got list"),
        ({"qkv": QKV.astype("f8")}, TypeError, "qkv has dtype float64, needs float32"),
        ({"qkv": QKV[0]}, ValueError, r"qkv has shape \(6, 24\)"),
        ({"qkv": QKV[..., :23].copy()}, ValueError, "qkv has 23 columns; a multiple of 3"),
        ({"qkv": QKV[..., :0]}, ValueError, "qkv has 0 columns"),
        ({"qkv": QKV[..., ::-1]}, ValueError, "qkv must be C-contiguous"),
        ({"heads": 3}, ValueError, "heads is 3; a divisor of d = 8"),
        ({"heads": 0}, ValueError, "heads is 0"),
        ({"heads": True}, TypeError, "heads must be an int, got True"),
        ({"heads": 2.0}, TypeError, "heads must be an int, got 2.0"),
        ({"num_threads": 0}, ValueError, "num_threads is 0"),
        ({"out": np.zeros((2, 6, 4), "f4")}, ValueError, "out has shape"),
        ({"out": QKV.reshape(-1)[:96].reshape(2, 6, 8)}, ValueError, "out overlaps qkv"),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        window_attention(**{"qkv": QKV, "heads": 2} | arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"gradient": None}, TypeError, "gradient must be a numpy array"),
        ({"gradient": GRADIENT.astype("f8")}, TypeError, "gradient has dtype float64"),
        ({"gradient": GRADIENT[:1]}, ValueError, r"gradient has shape \(1, 6, 8\), needs"),
        ({"gradient": np.asfortranarray(GRADIENT)}, ValueError, "gradient must be C-contiguous"),
        ({"out": np.zeros((2, 6, 24))}, ValueError, "out has dtype float64"),
    ],
)  # fmt: skip
def test_the_gradient_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        window_attention_gradient(**{"gradient": GRADIENT, "qkv": QKV, "heads": 2} | arguments)


def test_an_out_over_the_gradient_is_refused():
    room = np.zeros((2, 6, 24), np.float32)
    gradient = room.reshape(-1)[:96].reshape(2, 6, 8)
    with pytest.raises(ValueError, match="out overlaps gradient"):
        window_attention_gradient(gradient, QKV, 2, room)
