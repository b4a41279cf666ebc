"""An encoder layer around its attention against the oracle, and everything it must refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfa_kernels import _row_ops_nb, reference_encoder
from tfa_kernels._vectors_nb import WIDTH
from tfa_kernels.encoder_layer import (
    LayerNorm,
    Linear,
    after_attention,
    after_attention_gradient,
    before_attention,
    before_attention_gradient,
)

EPS = np.finfo(np.float32).eps


def linear(rng, columns, d):
    weight = rng.standard_normal((columns, d), np.float32) / np.float32(math.sqrt(d))
    return Linear(weight, rng.standard_normal(columns, np.float32))


def layer_norm(rng, d, eps=1e-5):
    weight, bias = rng.standard_normal((2, d), np.float32)
    return LayerNorm(weight + 1, bias, eps)


def before(rows, d, columns, seed=0):
    """Arguments of `before_attention`, the gradient of its result, and what is passed on."""
    rng = np.random.default_rng(seed)
    x, passed = rng.standard_normal((2, rows, d), np.float32)
    gradient = rng.standard_normal((rows, columns), np.float32)
    return (x, layer_norm(rng, d), linear(rng, columns, d)), gradient, passed


def after(rows, d, hidden, seed=0):
    """Arguments of `after_attention`, and the gradient of its result."""
    rng = np.random.default_rng(seed)
    x, mixed, gradient = rng.standard_normal((3, rows, d), np.float32)
    parts = linear(rng, d, d), layer_norm(rng, d), linear(rng, hidden, d), linear(rng, d, hidden)
    return (x, mixed, *parts), gradient


def flattened(made):
    """All arrays of a result of gradients, in turn."""
    if isinstance(made, np.ndarray):
        return [made]
    return [a for part in made if not isinstance(part, float) for a in flattened(part)]


def assert_close(got, want):
    """Within the rounding of float32 of sums of some hundred terms."""
    assert got.dtype == np.float32 and got.shape == want.shape
    assert np.abs(got - want).max(initial=0.0) <= 60 * EPS * np.abs(want).max(initial=1.0)


def assert_all_close(got, want):
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert_close(a, b)


SIZES = st.sampled_from([32, 64])


@settings(max_examples=12, deadline=None)
@given(rows=st.integers(0, 13), d=SIZES, columns=SIZES, seed=st.integers(0, 2**32 - 1))
def test_before_attention_matches_oracle(rows, d, columns, seed):
    arguments, gradient, passed = before(rows, d, columns, seed)
    assert_close(before_attention(*arguments), reference_encoder.before_attention(*arguments))
    made = before_attention_gradient(gradient, *arguments, passed)
    want = reference_encoder.before_attention_gradient(gradient, *arguments, passed)
    assert_all_close(flattened(made), want)


@settings(max_examples=12, deadline=None)
@given(rows=st.integers(0, 13), d=SIZES, hidden=SIZES, seed=st.integers(0, 2**32 - 1))
def test_after_attention_matches_oracle(rows, d, hidden, seed):
    arguments, gradient = after(rows, d, hidden, seed)
    made = after_attention(*arguments)
    assert_close(made.out, reference_encoder.after_attention(*arguments))
    got = after_attention_gradient(gradient, arguments[1], made, *arguments[2:])
    want = reference_encoder.after_attention_gradient(gradient, *arguments)
    assert_all_close(flattened(got), want)


def in_float64(arguments):
    """The forward pass in float64 by numpy, for more rows than the oracle has time for."""
    x, mixed, output, norm, first, second = arguments
    middle = x + mixed @ output.weight.T.astype(float) + output.bias
    normed = (middle - middle.mean(1, keepdims=True)) / np.sqrt(
        middle.var(1, keepdims=True) + norm.eps
    )
    entering = (normed * norm.weight + norm.bias) @ first.weight.T.astype(float) + first.bias
    share = np.vectorize(lambda v: math.erfc(-v / math.sqrt(2)) / 2)(entering)
    return middle + (entering * share) @ second.weight.T.astype(float) + second.bias


def test_more_rows_than_a_block_and_a_chunk_have():
    arguments, gradient = after(1601, 32, 64)
    made = after_attention(*arguments)
    assert_close(made.out, in_float64(arguments))
    rng = np.random.default_rng(1)
    got = after_attention_gradient(gradient, arguments[1], made, *arguments[2:])
    # Along a random direction, the change of the sum that the gradient was taken of.
    direction = [rng.standard_normal(a.shape) for a in flattened(arguments)]
    pairs = list(zip(flattened(arguments), direction, strict=True))
    moved = [in_float64(rebuilt(arguments, [a + h * d for a, d in pairs])) for h in (1e-5, -1e-5)]
    change = (gradient.astype(float) * (moved[0] - moved[1])).sum() / 2e-5
    along = sum((a.astype(float) * d).sum() for a, d in zip(flattened(got), direction, strict=True))
    assert along == pytest.approx(change, rel=1e-4, abs=1e-3)


def rebuilt(arguments, arrays):
    """The arguments with other arrays."""
    x, mixed, w, b, norm_w, norm_b, w1, b1, w2, b2 = arrays
    norm = LayerNorm(norm_w, norm_b, arguments[3].eps)
    return x, mixed, Linear(w, b), norm, Linear(w1, b1), Linear(w2, b2)


def test_bits_do_not_depend_on_threads():
    arguments, gradient = after(1000, 64, 32)
    made = after_attention(*arguments, num_threads=1)
    for a, b in zip(made, after_attention(*arguments, num_threads=2), strict=True):
        np.testing.assert_array_equal(a, b)
    one, two = (
        after_attention_gradient(gradient, arguments[1], made, *arguments[2:], num_threads=n)
        for n in (1, 2)
    )
    for a, b in zip(flattened(one), flattened(two), strict=True):
        np.testing.assert_array_equal(a, b)
    arguments, gradient, passed = before(1000, 64, 96)
    one, two = (
        before_attention_gradient(gradient, *arguments, passed, num_threads=n) for n in (1, 2)
    )
    for a, b in zip(flattened(one), flattened(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_is_kept_where_no_gradient_is_wanted():
    arguments, _ = after(50, 32, 64)
    made = after_attention(*arguments, keep=False)
    assert made.before_gelu.shape == (0, 64)
    np.testing.assert_array_equal(made.out, after_attention(*arguments).out)


def test_a_nan_stays_in_its_row_and_reaches_all_sums():
    arguments, gradient = after(9, 32, 32)
    clean = after_attention(*arguments)
    arguments[0][4, 3] = np.nan
    made = after_attention(*arguments)
    assert np.isnan(made.out[4]).all()
    others = np.arange(9) != 4
    np.testing.assert_array_equal(made.out[others], clean.out[others])
    got = after_attention_gradient(gradient, arguments[1], made, *arguments[2:])
    assert np.isnan(got.x[4]).all() and not np.isnan(got.x[others]).any()
    assert np.isnan(got.first.weight).all()


def test_gelu_of_every_size_of_number():
    x = np.concatenate(
        [np.linspace(-15, 15, 4001), [0.0, 1e-40, -1e-40, 1e10, -1e10, np.nan]], dtype=np.float32
    )
    x = np.concatenate([x, np.zeros(-len(x) % WIDTH, np.float32)])
    out = np.empty_like(x)
    _row_ops_nb.gelu(x, 0, x.size, out)
    want = np.array([v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.tolist()])
    # The exponent of the density, x^2 / 2, is rounded before its power is taken.
    with np.errstate(all="ignore"):
        bound = (4 + x.astype(float) ** 2) * EPS * np.abs(want) + 1e-20
    assert np.isnan(out[np.isnan(x)]).all()
    rest = ~np.isnan(x)
    assert (np.abs(out - want) <= bound)[rest].all()


ARGUMENTS, GRADIENT = after(6, 32, 64)
NAMES = ("x", "mixed", "output", "norm", "first", "second")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": None}, TypeError, "x must be a numpy array, got NoneType"),
        ({"x": ARGUMENTS[0].astype("f8")}, TypeError, "x has dtype float64, needs float32"),
        ({"x": ARGUMENTS[0][0]}, ValueError, r"x has shape \(32,\)"),
        ({"x": ARGUMENTS[0][:, :31].copy()}, ValueError, "x has 31 columns; a multiple of 32"),
        ({"x": ARGUMENTS[0][:, :0]}, ValueError, "x has 0 columns; a multiple of 32"),
        ({"x": ARGUMENTS[0][::-1]}, ValueError, "x must be C-contiguous"),
        ({"mixed": ARGUMENTS[1][:5]}, ValueError, r"mixed has shape \(5, 32\), needs \(6, 32\)"),
        ({"output": ARGUMENTS[2].weight}, TypeError, "output must be a Linear"),
        ({"output": ARGUMENTS[4]}, ValueError, r"output.weight has shape \(64, 32\), needs"),
        ({"output": ARGUMENTS[2]._replace(bias=None)}, TypeError, "output.bias must be a numpy"),
        ({"norm": (1, 2)}, TypeError, "norm must be a LayerNorm"),
        ({"norm": ARGUMENTS[3]._replace(eps="a")}, TypeError, "norm.eps must be a number, got 'a'"),
        ({"norm": ARGUMENTS[3]._replace(eps=-1)}, ValueError, "norm.eps is -1; a finite number"),
        ({"norm": ARGUMENTS[3]._replace(eps=math.nan)}, ValueError, "norm.eps is nan"),
        ({"norm": ARGUMENTS[3]._replace(eps=1e-50)}, ValueError, "norm.eps is 1e-50; a finite"),
        (
            {"norm": ARGUMENTS[3]._replace(eps=0)},
            ValueError,
            "norm.eps is 0; a finite number above",
        ),
        (
            {"norm": ARGUMENTS[3]._replace(weight=np.ones(31, "f4"))},
            ValueError,
            r"norm.weight has shape \(31,\), needs \(32,\)",
        ),
        ({"first": ARGUMENTS[5]}, ValueError, r"first.weight has shape \(32, 64\), needs"),
        (
            {"first": Linear(np.ones((33, 32), "f4"), np.ones(33, "f4"))},
            ValueError,
            "first.weight has 33 rows; a multiple of 32",
        ),
        ({"second": ARGUMENTS[2]}, ValueError, r"second.weight has shape \(32, 32\), needs"),
        ({"num_threads": 0}, ValueError, "num_threads is 0"),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        after_attention(**dict(zip(NAMES, ARGUMENTS, strict=True)) | arguments)


def test_the_gradients_refuse():
    made = after_attention(*ARGUMENTS)
    rest = ARGUMENTS[2:]
    with pytest.raises(ValueError, match=r"gradient has shape \(5, 32\), needs \(6, 32\)"):
        after_attention_gradient(GRADIENT[:5], ARGUMENTS[1], made, *rest)
    unkept = after_attention(*ARGUMENTS, keep=False)
    with pytest.raises(ValueError, match=r"made.before_gelu has shape \(0, 64\), needs \(6, 64\)"):
        after_attention_gradient(GRADIENT, ARGUMENTS[1], unkept, *rest)
    arguments, gradient, passed = before(6, 32, 64)
    with pytest.raises(ValueError, match=r"gradient has shape \(6, 32\), needs \(6, 64\)"):
        before_attention_gradient(passed, *arguments, passed)
    with pytest.raises(ValueError, match=r"passed has shape \(6, 64\), needs \(6, 32\)"):
        before_attention_gradient(gradient, *arguments, gradient)
