"""Arguments of any kind for the encoder layer's kernels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.odd_arguments import ODD, fuzz, often, outcome, tables
from tfa_kernels import (
    reference_encoder,
    reference_last_rows,
    window_attention,
    window_attention_gradient,
)
from tfa_kernels.encoder_layer import (
    AfterAttention,
    LayerNorm,
    Linear,
    after_attention,
    after_attention_gradient,
    before_attention,
    before_attention_gradient,
)
from tfa_kernels.last_rows import last_attention, last_attention_gradient
from tfa_kernels.self_attention import self_attention, self_attention_gradient

THREADS = st.sampled_from([None, 1, 2])
COLUMNS = st.sampled_from([32, 64])


@st.composite
def linears(draw, columns, d):
    made = Linear(draw(tables((columns, d))), draw(tables((columns,))))
    return often(draw, st.just(made), ODD | st.just(tuple(made)))


@st.composite
def norms(draw, d):
    eps = often(draw, st.sampled_from([1e-5, 1, np.float32(0.1)]), ODD)
    made = LayerNorm(draw(tables((d,))), draw(tables((d,))), eps)
    return often(draw, st.just(made), ODD | st.just(tuple(made)))


@st.composite
def befores(draw):
    rows, d, columns = draw(st.integers(0, 2)), draw(COLUMNS), draw(COLUMNS)
    arguments = {
        "x": draw(tables((rows, often(draw, st.just(d), st.integers(0, 65))))),
        "norm": draw(norms(d)),
        "projection": draw(linears(columns, d)),
        "num_threads": often(draw, THREADS, ODD),
    }
    return arguments, (rows, d, columns)


@st.composite
def afters(draw):
    rows, d, hidden = draw(st.integers(0, 2)), draw(COLUMNS), draw(COLUMNS)
    arguments = {
        "x": draw(tables((rows, often(draw, st.just(d), st.integers(0, 65))))),
        "mixed": draw(tables((rows, d))),
        "output": draw(linears(d, d)),
        "norm": draw(norms(d)),
        "first": draw(linears(hidden, d)),
        "second": draw(linears(d, hidden)),
        "num_threads": often(draw, THREADS, ODD),
    }
    return arguments, (rows, d, hidden)


def flattened(made):
    """All arrays of a result, in turn."""
    if isinstance(made, np.ndarray):
        return [made]
    parts = [part for part in made if isinstance(part, (np.ndarray, tuple))]
    return [array for part in parts for array in flattened(part)]


def assert_close(got, want):
    """Within float32's rounding of sums of some hundred products of numbers up to tens."""
    for a, b in zip(flattened(got), flattened(want), strict=True):
        assert a.dtype == np.float32 and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max(initial=1.0))


def without_threads(arguments):
    return {name: value for name, value in arguments.items() if name != "num_threads"}


@fuzz
@given(befores())
def test_before_attention(drawn):
    arguments, _ = drawn
    got = outcome(before_attention, arguments, list(arguments))
    if got is not None:
        assert_close(got, reference_encoder.before_attention(**without_threads(arguments)))


@fuzz
@given(befores(), st.data())
def test_before_attention_gradient(drawn, data):
    arguments, (rows, d, columns) = drawn
    arguments["gradient"] = data.draw(tables((rows, columns)))
    arguments["passed"] = data.draw(tables((rows, d)))
    got = outcome(before_attention_gradient, arguments, list(arguments))
    if got is not None:
        want = reference_encoder.before_attention_gradient(**without_threads(arguments))
        assert_close(got, want)


@fuzz
@given(afters(), st.booleans() | ODD)
def test_after_attention(drawn, keep):
    arguments, (rows, _, hidden) = drawn
    got = outcome(after_attention, arguments | {"keep": keep}, list(arguments))
    if got is not None:
        assert got.before_gelu.shape == (rows if keep else 0, hidden)
        want = reference_encoder.after_attention(**without_threads(arguments))
        assert_close(got.out, want)


@fuzz
@given(afters(), st.data())
def test_after_attention_gradient(drawn, data):
    arguments, (rows, d, hidden) = drawn
    gradient = data.draw(tables((rows, d)))
    made = outcome(after_attention, arguments, list(arguments))
    whole = made is not None and data.draw(st.integers(0, 9)) != 5
    if made is None:
        made = AfterAttention(*(data.draw(tables((rows, n))) for n in (d, d, hidden)))
    elif not whole:
        made = made._replace(middle=data.draw(tables((rows, d))))
        made = data.draw(st.just(made) | ODD)
    x = arguments.pop("x")
    given = arguments | {"gradient": gradient, "made": made}
    got = outcome(after_attention_gradient, given, list(given))
    if got is not None and whole:
        plain = without_threads(arguments) | {"x": x, "gradient": gradient}
        assert_close(got, reference_encoder.after_attention_gradient(**plain))


def largest(*arrays):
    return [float(np.abs(array).max(initial=1.0)) for array in arrays]


@fuzz
@given(st.data())
def test_last_attention(data):
    draw = data.draw
    windows, rows, heads = (draw(st.integers(low, 3)) for low in (0, 0, 0))
    d = draw(COLUMNS)
    given_ = {
        "x": draw(tables((windows, rows, often(draw, st.just(d), st.integers(0, 65))))),
        "norm": draw(norms(d)),
        "sought": draw(tables((windows, heads, d))),
        "num_threads": often(draw, THREADS, ODD),
    }
    gradient = draw(tables((windows, heads, d)))
    got = outcome(last_attention, given_, list(given_))
    all_ = given_ | {"gradient": gradient}
    made = outcome(last_attention_gradient, all_, list(all_))
    if made is None:
        return
    assert got is not None
    plain = without_threads(given_)
    norm = plain["norm"]
    weight, bias, sought, given_gradient = largest(*norm[:2], plain["sought"], gradient)
    normed = np.sqrt(d) * weight + bias
    # What float32 is off in a score, all of a weight is off by.
    off = 8 * np.finfo(np.float32).eps * (1 + d * sought * normed)
    want = reference_last_rows.last_attention(**plain)
    np.testing.assert_allclose(got, want, atol=2 * off * normed)
    of_normed = heads * given_gradient * (1 + 2 * d * normed * sought)
    sizes = [
        of_normed * weight / np.sqrt(float(norm.eps)),
        windows * rows * of_normed * np.sqrt(d),
        windows * rows * of_normed,
        2 * rows * d * given_gradient * normed**2,
    ]
    found = made.x, *made.norm[:2], made.sought
    exact = reference_last_rows.last_attention_gradient(gradient, **plain)
    for a, b, size in zip(found, exact, sizes, strict=True):
        assert a.dtype == np.float32 and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=4 * off * size)


@fuzz
@given(st.data())
def test_self_attention(data):
    """The bits of the kernels in turn, or an error; those are fuzzed against the oracles."""
    draw = data.draw
    windows, T, d = draw(st.integers(0, 3)), draw(st.integers(0, 5)), draw(COLUMNS)
    heads = often(draw, st.sampled_from([1, 2, 4]), st.integers(-2, 9) | ODD)
    given_ = {
        "x": draw(tables((windows, T, often(draw, st.just(d), st.integers(0, 65))))),
        "norm": draw(norms(d)),
        "projection": draw(linears(often(draw, st.just(3 * d), COLUMNS), d)),
        "heads": heads,
        "num_threads": often(draw, THREADS, ODD),
    }
    made = outcome(self_attention, given_, list(given_))
    more = {
        "gradient": draw(tables((windows, T, d))),
        "qkv": draw(tables((windows, T, 3 * d))) if made is None else made.qkv,
        "passed": draw(tables((windows, T, d))),
    }
    got = outcome(self_attention_gradient, given_ | more, list(given_ | more))
    if made is None or got is None:
        return
    x, norm, projection = (given_[name] for name in ("x", "norm", "projection"))
    flat = x.reshape(-1, d)
    qkv = before_attention(flat, norm, projection).reshape(made.qkv.shape)
    np.testing.assert_array_equal(made.qkv, qkv)
    np.testing.assert_array_equal(made.out, window_attention(qkv, heads))
    of_qkv = window_attention_gradient(more["gradient"], qkv, heads).reshape(-1, 3 * d)
    passed = more["passed"].reshape(-1, d)
    want = before_attention_gradient(of_qkv, flat, norm, projection, passed)
    np.testing.assert_array_equal(got.x.reshape(-1, d), want.x)
    for a, b in zip(flattened(got)[1:], flattened(want)[1:], strict=True):
        np.testing.assert_array_equal(a, b)
