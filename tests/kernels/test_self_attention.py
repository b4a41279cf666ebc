"""Norm, projection and attention in one kernel against the oracles, and all it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.test_encoder_layer import (
    assert_all_close,
    assert_close,
    flattened,
    layer_norm,
    linear,
)
from tfa_kernels import (
    reference_attention,
    reference_encoder,
    window_attention,
    window_attention_gradient,
)
from tfa_kernels.encoder_layer import before_attention, before_attention_gradient
from tfa_kernels.self_attention import self_attention, self_attention_gradient


def drawn(windows, T, d, seed=0):
    """x, norm and projection; the gradient of the result, and what is passed on."""
    rng = np.random.default_rng(seed)
    x, gradient, passed = rng.standard_normal((3, windows, T, d), np.float32)
    return x, layer_norm(rng, d), linear(rng, 3 * d, d), gradient, passed


def rows(array):
    return array.reshape(-1, array.shape[-1])


@settings(max_examples=15, deadline=None)
@given(
    windows=st.integers(0, 4),
    T=st.integers(1, 9),
    heads=st.sampled_from([1, 2, 8]),
    seed=st.integers(0, 2**32 - 1),
)
def test_matches_oracle(windows, T, heads, seed):
    x, norm, projection, gradient, passed = drawn(windows, T, 32, seed)
    made = self_attention(x, norm, projection, heads)
    qkv = reference_encoder.before_attention(rows(x), norm, projection).reshape(made.qkv.shape)
    assert_close(made.qkv, qkv)
    assert_close(made.out, reference_attention.window_attention(qkv, heads))
    got = self_attention_gradient(gradient, x, made.qkv, norm, projection, heads, passed)
    of_qkv = reference_attention.window_attention_gradient(gradient, qkv, heads)
    want = reference_encoder.before_attention_gradient(
        rows(of_qkv), rows(x), norm, projection, rows(passed)
    )
    assert_all_close(flattened(got), [want[0].reshape(x.shape), *want[1:]])


@pytest.mark.parametrize(
    ("windows", "T", "d", "heads"), [(70, 48, 64, 4), (300, 5, 32, 2), (3, 100, 32, 1)]
)
def test_many_windows_give_the_bits_of_the_kernels_in_turn(windows, T, d, heads):
    """More than a chunk has, and more than are taken at a time; any number of threads."""
    x, norm, projection, gradient, passed = drawn(windows, T, d)
    qkv = before_attention(rows(x), norm, projection).reshape(windows, T, 3 * d)
    out = window_attention(qkv, heads)
    of_qkv = window_attention_gradient(gradient, qkv, heads)
    want = before_attention_gradient(rows(of_qkv), rows(x), norm, projection, rows(passed))
    for threads in (1, 2):
        made = self_attention(x, norm, projection, heads, num_threads=threads)
        np.testing.assert_array_equal(made.qkv, qkv)
        np.testing.assert_array_equal(made.out, out)
        got = self_attention_gradient(
            gradient, x, qkv, norm, projection, heads, passed, num_threads=threads
        )
        np.testing.assert_array_equal(rows(got.x), want.x)
        # Sums over rows, which are cut into other chunks.
        assert_all_close(flattened(got)[1:], [a.astype(float) for a in flattened(want)[1:]])
        if threads == 1:
            one = got
    for a, b in zip(flattened(got), flattened(one), strict=True):
        np.testing.assert_array_equal(a, b)


X, NORM, PROJECTION, GRADIENT, PASSED = drawn(2, 6, 32)
QKV = np.zeros((2, 6, 96), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": X.tolist()}, TypeError, "x must be a numpy array, got list"),
        ({"x": X[0]}, ValueError, r"x has shape \(6, 32\)"),
        ({"x": X[:, :0]}, ValueError, r"x has shape \(2, 0, 32\); at least one row"),
        ({"x": X[..., :31].copy()}, ValueError, "x has 31 columns; a multiple of 32"),
        ({"x": X[:, ::2]}, ValueError, "x must be C-contiguous"),
        ({"norm": NORM._replace(eps=0.0)}, ValueError, "norm.eps is 0.0"),
        ({"projection": None}, TypeError, r"projection must be a Linear\(weight, bias\)"),
        (
            {"projection": PROJECTION._replace(weight=np.zeros((64, 32), "f4"))},
            ValueError,
            r"projection.weight has shape \(64, 32\), needs \(96, 32\)",
        ),
        ({"heads": 3}, ValueError, "heads is 3; a divisor of d = 32"),
        ({"heads": True}, TypeError, "heads must be an int, got True"),
        ({"num_threads": 0}, ValueError, "num_threads is 0"),
    ],
)
def test_refuses(arguments, error, message):
    given = {"x": X, "norm": NORM, "projection": PROJECTION, "heads": 2}
    with pytest.raises(error, match=message):
        self_attention(**given | arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"gradient": GRADIENT[:1]}, ValueError, r"gradient has shape \(1, 6, 32\), needs"),
        ({"passed": PASSED.astype("f8")}, TypeError, "passed has dtype float64"),
        ({"qkv": QKV[..., :32].copy()}, ValueError, r"qkv has shape \(2, 6, 32\), needs"),
        ({"heads": 0}, ValueError, "heads is 0"),
        ({"num_threads": -1}, ValueError, "num_threads is -1"),
    ],
)
def test_the_gradient_refuses(arguments, error, message):
    given = {
        "gradient": GRADIENT, "x": X, "qkv": QKV, "norm": NORM, "projection": PROJECTION,
        "heads": 2, "passed": PASSED,
    }  # fmt: skip
    with pytest.raises(error, match=message):
        self_attention_gradient(**given | arguments)
