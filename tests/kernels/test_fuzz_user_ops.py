"""Arguments of any kind for register_op, and specs of any kind for what it registers.

A fiftieth of the examples of the others: each that is taken is compiled.
"""

from __future__ import annotations

import itertools

import numba
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.odd_arguments import ODD, fuzz, often, outcome
from tfa_kernels import FeatureStream, build_features, register_op
from tfa_kernels.ops import CONVENTIONS, OPS

COLUMNS = ("open", "high", "low", "close", "volume")


def oldest(x):
    return x[0]


@numba.njit
def spread(x):
    return x.max() - x.min()


def across(a, b):
    return a[-1] - b[0]


def larger(a, b, c, d, e):
    return a[0] + b[0] > c[-1] + d[-1] * e[0]


def pair(x):
    return x[0], x[0]


def endless(*columns):
    return columns[0][0]


FUNCTIONS = {1: [oldest, spread], 2: [across], 5: [larger]}
OTHERS = st.sampled_from(
    [pair, endless, len, max, np.max, int, across, larger, lambda: 1.0, lambda x, y=2.0: x[0] + y,
     lambda x: x[5], lambda x: x.nothing, numba.jit(forceobj=True)(oldest),
     numba.njit(parallel=True)(oldest)]
)  # fmt: skip
# A name is never given to a second op: what a spec is planned as is remembered.
NUMBERS = itertools.count()


@st.composite
def registrations(draw):
    count = draw(st.sampled_from([1, 1, 2, 5]))
    function = often(draw, st.sampled_from(FUNCTIONS[count]), OTHERS | ODD)
    names = st.sampled_from([*COLUMNS, "logret"])
    several = st.lists(names, min_size=count, max_size=count)
    usual = several.map(tuple) if count > 1 else st.none() | several
    inputs = often(draw, usual, ODD | st.just("close") | st.lists(names | ODD, max_size=7))
    window = often(draw, st.none() | st.integers(1, 20), st.integers(-2, 2**40) | ODD)
    odd = ODD | st.integers(-2, 2**40)
    result = draw(odd)
    back = st.integers(0, 40) | st.just(lambda w: w - 1)
    lookback = often(draw, back, odd | st.just(lambda w: result) | st.just(lambda: 1))
    odd_names = ODD.filter(lambda name: not name or not isinstance(name, str)) | st.just("EMA")
    name = often(draw, st.just(f"FUZZED{next(NUMBERS)}"), odd_names)
    return {
        "name": name, "function": function, "lookback": lookback, "window": window,
        "inputs": inputs,
    }  # fmt: skip


@st.composite
def specs(draw, arguments):
    feature = {"name": "a", "op": arguments["name"]}
    if arguments["window"] is not None and draw(st.booleans()):
        feature["window"] = often(draw, st.integers(1, 40), st.integers(-2, 2**40) | ODD)
    if draw(st.booleans()):
        feature["source"] = often(draw, st.sampled_from([*COLUMNS, "logret"]), ODD)
    convention = draw(st.sampled_from(CONVENTIONS))
    return {"schema_version": "2.0", "convention": convention, "features": [feature]}


@settings(fuzz, max_examples=max(10, fuzz.max_examples // 50))
@given(registrations(), st.data())
def test_register_op(arguments, data):
    known = set(OPS)
    try:
        outcome(register_op, arguments, [*arguments, "op"])
        if set(OPS) != known:
            use(arguments, data)
    finally:
        for name in set(OPS) - known:
            del OPS[name]


def use(arguments, data):
    spec = data.draw(specs(arguments))
    rows = data.draw(st.integers(1, 60))
    bars = {name: np.sin(np.arange(rows) + i) + 2 for i, name in enumerate(COLUMNS)}
    names = ["window", "lookback", "source", "op"]
    got = outcome(build_features, {"bars": bars, "spec": spec}, names)
    if got is None:
        return
    stream = outcome(FeatureStream, {"spec": spec}, ["spec"])
    if stream is None:
        return
    streamed = [stream.update({name: column[t] for name, column in bars.items()})
                for t in range(rows)]  # fmt: skip
    np.testing.assert_array_equal(np.array(streamed), got.values)
    want = answer(arguments, spec, bars)
    # A return is of two bars: the first window with one has no answer in the talib convention.
    sure = ~np.isnan(want) if "logret" in str(arguments["inputs"]) + str(spec) else slice(None)
    np.testing.assert_allclose(got.values[sure, 0], want[sure], rtol=1e-5, atol=1e-6)


def answer(arguments, spec, bars):
    """The function called with each row's window; no value where the window is not whole."""
    (feature,) = spec["features"]
    read = arguments["inputs"] or [feature.get("source", "close")]
    as_they_are = [{"name": str(i), "op": "IDENT", "source": x} for i, x in enumerate(read)]
    columns = build_features(bars, {**spec, "features": as_they_are}).values.T.astype(float)
    back = arguments["lookback"]
    if callable(back):
        back = back(feature.get("window") or arguments["window"] or 1)
    function = getattr(arguments["function"], "py_func", arguments["function"])
    out = np.full(columns.shape[1], 0.0 if spec["convention"] == "legacy" else np.nan)
    for t in range(back, len(out)):
        window = columns[:, t - back : t + 1]
        out[t] = np.nan if np.isnan(window).any() else function(*window)
    return out
