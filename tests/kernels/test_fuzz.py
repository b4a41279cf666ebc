"""Arguments of any kind: the oracle's answer, or a TypeError or ValueError that names one of them.

500 examples of each; TFA_PERF_FUZZ_EXAMPLES=20000 for a night.
"""

from __future__ import annotations

import contextlib
import os
import re

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfa_kernels import build_features, gather_windows, reference
from tfa_kernels.ops import CONVENTIONS, OPS

fuzz = settings(
    max_examples=int(os.environ.get("TFA_PERF_FUZZ_EXAMPLES", "500")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

ODD = st.sampled_from([None, True, 0, -1, 2**31, 2**63, -(2**63), 1.5, float("nan"), "2", b"", {}])
DTYPES = st.sampled_from(
    ["f2", "f4", "f8", ">f4", "i1", "u2", "i8", "?", "c16", "O", "U3", "M8[s]", "V8"]
)


def often(draw, usual, odd):
    return draw(odd if draw(st.integers(0, 11)) == 5 else usual)


@st.composite
def arrays(draw, shape):
    """Of any dtype and layout; mostly float32 and contiguous."""
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(often(draw, st.just("f4"), DTYPES))
    layout = often(draw, st.just("C"), st.sampled_from(["F", "reversed", "strided", "read-only"]))
    if not shape or layout == "C":
        return array
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "reversed":
        return array[::-1]
    if layout == "strided":
        return np.repeat(array, 2, axis=0)[::2]
    array.flags.writeable = False
    return array


shapes = st.tuples(st.integers(0, 12), st.integers(0, 4))
odd_shapes = st.sampled_from([(), (5,), (3, 2, 2), (0, 0), (1, 1)])


@st.composite
def gathers(draw):
    X = often(draw, arrays(often(draw, shapes, odd_shapes)), ODD | st.just([[1.0, 2.0]]))
    rows = len(X) if isinstance(X, np.ndarray) and X.ndim else 3
    window = often(draw, st.integers(1, max(1, rows)), st.integers(-2, 20) | ODD)
    last = rows - window if type(window) is int else rows
    numbers = st.lists(st.integers(0, max(0, last)), max_size=6)
    kinds = st.sampled_from(["i8", "i4", "u1", "u8", "f8", "?", "O", "U3"])
    wild = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 20) | ODD, max_size=4)
    near = st.lists(st.sampled_from([-1, 0, last, last + 1]), max_size=2)
    starts = often(draw, often(draw, st.just(numbers), st.just(near)), wild | ODD)
    if isinstance(starts, list) and draw(st.booleans()):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            starts = np.array(starts, often(draw, st.just("i8"), kinds))
    out = None
    if draw(st.booleans()):
        count = np.size(starts)
        columns = X.shape[1] if isinstance(X, np.ndarray) and X.ndim == 2 else 2
        length = window if type(window) is int and 0 <= window < 30 else 2
        shape = often(draw, st.just((count, length, columns)), odd_shapes)
        out = often(draw, arrays(shape), ODD)
        overlapping = isinstance(X, np.ndarray) and X.ndim == 2 and count == 1 and length == rows
        if overlapping and draw(st.booleans()):
            out = X[None]
    threads = often(draw, st.sampled_from([None, 1, 2]), ODD)
    return {"X": X, "starts": starts, "window": window, "out": out, "num_threads": threads}


def outcome(function, arguments, names):
    """What it returns; None where it refuses, by name."""
    try:
        return function(**arguments)
    except (TypeError, ValueError) as error:
        assert re.search(rf"\b({'|'.join(names)})\b", str(error)), error
        return None


@fuzz
@given(gathers())
def test_gather_windows(arguments):
    X, out = arguments["X"], arguments["out"]
    table = X.copy() if isinstance(X, np.ndarray) else X
    before = out.copy() if isinstance(out, np.ndarray) else None
    got = outcome(gather_windows, arguments, ["X", "starts", "window", "out", "num_threads"])
    if got is None:
        if before is not None:
            np.testing.assert_array_equal(out, before)
        return
    assert out is None or got is out
    want = reference.gather_windows(table, arguments["starts"], arguments["window"])
    assert got.dtype == table.dtype
    np.testing.assert_array_equal(got, want)


@st.composite
def builds(draw):
    rows = draw(st.integers(0, 30))
    names = ["open", "high", "low", "close", "volume"]
    usual = st.lists(st.integers(1, 200), min_size=rows, max_size=rows)
    values = st.sampled_from([0.0, -1.0, np.nan, np.inf, -np.inf, 1e308, 1e-308])
    bars = {}
    for name in names:
        column = np.array(draw(usual), np.float64)
        for at in draw(st.lists(st.integers(0, 29), max_size=1)):
            if at < rows and draw(st.booleans()):
                column[at] = draw(values)
        kind = often(draw, st.just("f8"), st.sampled_from(["f4", "i4", "u1"]))
        with np.errstate(all="ignore"):
            bars[name] = column.astype(kind)
    if not draw(st.integers(0, 3)):
        odd = ODD | arrays(often(draw, st.just((rows,)), odd_shapes))
        bars[draw(st.sampled_from(names))] = draw(odd)
    if not draw(st.integers(0, 9)):
        del bars[draw(st.sampled_from(names))]
    op = draw(st.sampled_from(sorted(OPS)))
    feature = {"name": "a", "op": often(draw, st.just(op), st.just("NONE") | ODD)}
    if OPS[op].window is not None:
        feature["window"] = often(draw, st.integers(1, 40), st.integers(-2, 2**40) | ODD)
    spec = {
        "schema_version": often(draw, st.just("2.0"), ODD),
        "convention": often(draw, st.sampled_from(CONVENTIONS), ODD),
        "features": [feature] if draw(st.integers(0, 19)) else draw(ODD),
    }
    threads = often(draw, st.sampled_from([None, 1, 2]), ODD)
    return {"bars": bars, "spec": spec, "num_threads": threads}


def is_huge(column):
    """Whether it holds a finite value whose square the oracle's float64 does not take."""
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "iuf":
        return False
    return bool((np.abs(column[np.isfinite(column)].astype(np.float64)) > 1e6).any())


@fuzz
@given(builds())
def test_build_features(arguments):
    names = ["bars", "open", "high", "low", "close", "volume", "spec", "num_threads", "window"]
    names += ["op", "features?", "convention", "schema_version", "rows"]
    got = outcome(build_features, arguments, names)
    if got is None or any(map(is_huge, arguments["bars"].values())):
        return
    with np.errstate(over="ignore"):
        want = reference.build_features(arguments["bars"], arguments["spec"]).astype(np.float32)
    assert got.values.shape == want.shape
    scale = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
    np.testing.assert_allclose(got.values, want, rtol=1e-5, atol=1e-5 * scale + 1e-12)
