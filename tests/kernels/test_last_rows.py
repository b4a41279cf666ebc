"""What a window's last row attends to, against the oracle, and everything it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfa_kernels import reference_last_rows
from tfa_kernels.encoder_layer import LayerNorm
from tfa_kernels.last_rows import last_attention, last_attention_gradient

EPS = np.finfo(np.float32).eps


def drawn(windows, rows, heads, d, seed=0, scale=1.0):
    """x, the norm, what is sought, and a gradient of the result."""
    rng = np.random.default_rng(seed)

    def some(*shape):
        return rng.standard_normal(shape, np.float32)

    x, sought = some(windows, rows, d) * np.float32(3), some(windows, heads, d) * np.float32(scale)
    return x, LayerNorm(1 + some(d) / 4, some(d) / 4), sought, some(windows, heads, d)


def assert_close(got, want):
    assert got.dtype == np.float32
    assert np.abs(got - want).max(initial=0.0) <= 200 * EPS * np.abs(want).max(initial=1.0)


def assert_is_the_oracle(x, norm, sought, gradient):
    assert_close(
        last_attention(x, norm, sought), reference_last_rows.last_attention(x, norm, sought)
    )
    made = last_attention_gradient(gradient, x, norm, sought)
    assert made.norm.eps == norm.eps
    want = reference_last_rows.last_attention_gradient(gradient, x, norm, sought)
    for a, b in zip((made.x, *made.norm[:2], made.sought), want, strict=True):
        assert_close(a, b)


@settings(max_examples=40, deadline=None)
@given(
    windows=st.integers(0, 3),
    rows=st.integers(1, 12),
    heads=st.integers(1, 18),
    panels=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_matches_oracle(windows, rows, heads, panels, seed, scale):
    assert_is_the_oracle(*drawn(windows, rows, heads, 32 * panels, seed, scale))


@pytest.mark.parametrize(("rows", "heads", "d"), [(48, 8, 128), (32, 4, 96), (129, 1, 32)])
def test_matches_oracle_at_usual_sizes(rows, heads, d):
    assert_is_the_oracle(*drawn(2, rows, heads, d, scale=0.2))


def test_far_apart_scores_are_all_of_the_largest():
    """Scores of thousands: only their differences count."""
    x, norm, sought, _ = drawn(2, 9, 3, 32, scale=200.0)
    assert_close(
        last_attention(x, norm, sought), reference_last_rows.last_attention(x, norm, sought)
    )


def test_bits_do_not_depend_on_threads():
    x, norm, sought, gradient = drawn(150, 5, 3, 32)
    found = []
    for threads in (1, 2):
        made = last_attention_gradient(gradient, x, norm, sought, num_threads=threads)
        out = last_attention(x, norm, sought, num_threads=threads)
        found.append((out, made.x, made.norm.weight, made.norm.bias, made.sought))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_a_window_that_is_no_number_leaves_the_others():
    x, norm, sought, gradient = drawn(4, 6, 3, 32)
    clean = last_attention(x, norm, sought), last_attention_gradient(gradient, x, norm, sought).x
    x[1, 2, 3] = np.nan
    spoilt = last_attention(x, norm, sought), last_attention_gradient(gradient, x, norm, sought).x
    for a, b in zip(spoilt, clean, strict=True):
        assert np.isnan(a[1]).any()
        assert np.array_equal(a[[0, 2, 3]], b[[0, 2, 3]])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"x": [1.0]}, TypeError, "x must be a numpy array"),
        ({"x": np.zeros((2, 4, 32))}, TypeError, "x has dtype float64"),
        ({"x": np.zeros((2, 128), np.float32)}, ValueError, "x has shape"),
        ({"x": np.zeros((2, 0, 32), np.float32)}, ValueError, "at least one row"),
        ({"x": np.zeros((2, 4, 16), np.float32)}, ValueError, "16 columns; a multiple of 32"),
        ({"x": np.zeros((2, 4, 64), np.float32)[..., ::2]}, ValueError, "x must be C-contiguous"),
        ({"norm": 1}, TypeError, "norm must be a LayerNorm"),
        ({"sought": np.zeros((2, 0, 32), np.float32)}, ValueError, "sought.*heads from 1"),
        ({"sought": np.zeros((3, 2, 32), np.float32)}, ValueError, "sought has shape"),
        ({"gradient": np.zeros((2, 3, 32), np.float32)}, ValueError, "gradient has shape"),
        ({"num_threads": 0}, ValueError, "num_threads"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, words):
    x, norm, sought, gradient = drawn(2, 4, 2, 32)
    given_ = {"gradient": gradient, "x": x, "norm": norm, "sought": sought, **change}
    with pytest.raises(error, match=words):
        last_attention_gradient(**given_)
    if "gradient" not in change:
        del given_["gradient"]
        with pytest.raises(error, match=words):
            last_attention(**given_)
