"""Arguments of any kind for attention in windows and the sums of overlapping ones."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.odd_arguments import ODD, arrays, fuzz, odd_shapes, often, outcome, tables
from tests.kernels.test_shared_attention import copies, summed
from tfa_kernels import (
    overlap_add,
    reference_attention,
    shared_attention,
    shared_attention_gradient,
    window_attention,
    window_attention_gradient,
)

THREADS = st.sampled_from([None, 1, 2])


@st.composite
def outs(draw, shape, inputs):
    """None, an array for the result, or the first values of one of the inputs."""
    size = math.prod(shape)
    if draw(st.booleans()):
        return None
    array = draw(st.sampled_from(inputs))
    if isinstance(array, np.ndarray) and array.size >= size and not draw(st.integers(0, 9)):
        return array.reshape(-1)[:size].reshape(shape)
    return often(draw, arrays(often(draw, st.just(shape), odd_shapes)), ODD)


@st.composite
def attentions(draw):
    heads, width = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    windows, rows, d = draw(st.integers(0, 2)), draw(st.integers(0, 6)), heads * width
    qkv = draw(tables((windows, rows, often(draw, st.just(3 * d), st.integers(0, 30)))))
    heads = often(draw, st.just(heads) | st.just(np.int32(heads)), st.integers(-2, 9) | ODD)
    threads = often(draw, THREADS, ODD)
    return {"qkv": qkv, "heads": heads, "num_threads": threads}, (windows, rows, d)


def assert_close(got, want, qkv, heads, largest):
    """Within float32's rounding of scores, of which a power is taken, times the largest summand."""
    assert got.dtype == np.float32 and got.shape == want.shape
    scores = math.sqrt(qkv.shape[2] / 3 / heads) * np.abs(qkv).max(initial=1.0) ** 2
    bound = 4 * np.finfo(np.float32).eps * (1 + scores) * largest
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def kept(function, arguments, names):
    """What it returns into ``out``; where it refuses, no byte of ``out`` has changed."""
    out = arguments["out"]
    before = out.copy() if isinstance(out, np.ndarray) else None
    got = outcome(function, arguments, names)
    if got is None and before is not None:
        np.testing.assert_array_equal(out, before)
    assert got is None or out is None or got is out
    return got


@fuzz
@given(attentions(), st.data())
def test_window_attention(drawn, data):
    given, shape = drawn
    given["out"] = data.draw(outs(shape, [given["qkv"]]))
    got = kept(window_attention, given, list(given))
    if got is not None:
        qkv, heads = given["qkv"], given["heads"]
        want = reference_attention.window_attention(qkv, heads)
        assert_close(got, want, qkv, heads, np.abs(qkv).max(initial=1.0))


@fuzz
@given(attentions(), st.data())
def test_window_attention_gradient(drawn, data):
    given, shape = drawn
    given["gradient"] = gradient = data.draw(tables(shape))
    whole = (*shape[:2], 3 * shape[2])
    given["out"] = data.draw(outs(whole, [given["qkv"], gradient]))
    got = kept(window_attention_gradient, given, list(given))
    if got is not None:
        qkv, heads = given["qkv"], given["heads"]
        want = reference_attention.window_attention_gradient(gradient, qkv, heads)
        # Of a window's rows: a gradient, times a value of each column of a head, times another.
        sizes = np.abs(gradient).max(initial=1.0) * np.abs(qkv).max(initial=1.0) ** 2
        columns = qkv.shape[2] / 3 / heads
        assert_close(got, want, qkv, heads, qkv.shape[1] * math.sqrt(columns) * sizes)


@st.composite
def shared(draw):
    heads, width, T = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    windows, d = draw(st.integers(1, 5)), heads * width
    rows = draw(tables((windows + T - 1, often(draw, st.just(3 * d), st.integers(0, 30)))))
    heads = often(draw, st.just(heads), st.integers(-2, 9) | ODD)
    threads = often(draw, THREADS, ODD)
    return {"rows": rows, "heads": heads, "num_threads": threads}, (windows, T, d)


@fuzz
@given(shared(), st.data())
def test_shared_attention(drawn, data):
    given, (_, T, _) = drawn
    given["window"] = often(data.draw, st.just(T), st.integers(-2, 12) | ODD)
    got = outcome(shared_attention, given, list(given))
    if got is not None:
        qkv, heads = copies(given["rows"], given["window"]), given["heads"]
        want = reference_attention.window_attention(qkv, heads)
        assert_close(got, want, qkv, heads, np.abs(qkv).max(initial=1.0))


@fuzz
@given(shared(), st.data())
def test_shared_attention_gradient(drawn, data):
    given, shape = drawn
    given["gradient"] = gradient = data.draw(tables(often(data.draw, st.just(shape), odd_shapes)))
    got = outcome(shared_attention_gradient, given, list(given))
    if got is not None:
        qkv, heads = copies(given["rows"], gradient.shape[1]), given["heads"]
        parts = reference_attention.window_attention_gradient(gradient, qkv, heads)
        want = summed(parts, given["rows"])
        sizes = np.abs(gradient).max(initial=1.0) * np.abs(qkv).max(initial=1.0) ** 2
        columns = qkv.shape[2] / 3 / heads
        largest = len(qkv) * qkv.shape[1] * math.sqrt(columns) * sizes
        assert_close(got, want, qkv, heads, largest)


@fuzz
@given(st.data())
def test_overlap_add(data):
    count, rows, columns = (data.draw(st.integers(low, 9)) for low in (0, 0, 0))
    windows = data.draw(tables((count, rows, columns)))
    out = data.draw(outs((max(0, count + rows - 1), columns), [windows]))
    given = {"windows": windows, "out": out, "num_threads": often(data.draw, THREADS, ODD)}
    got = kept(overlap_add, given, list(given))
    if got is not None:
        want = summed(windows, got)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(windows).max(initial=0))
