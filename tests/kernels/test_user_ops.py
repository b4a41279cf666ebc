"""Functions of the user's own in the fused pass."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from tfa_kernels import FeatureStream, OpError, SpecError, build_features, check_leakage, load_spec
from tfa_kernels import register_op as register
from tfa_kernels.ops import CONVENTIONS, OPS


@pytest.fixture(autouse=True)
def forget_ops():
    known = set(OPS)
    yield
    for name in set(OPS) - known:
        del OPS[name]


def spread_of_window(x):
    return x.max() - x.min()


@numba.njit
def gap(opened, close):
    return opened[-1] - close[0]


def spec(*features, convention="talib"):
    return load_spec(
        {"schema_version": "2.0", "convention": convention, "features": list(features)}
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_windows_of_any_input(convention, walk_bars):
    register("SPREAD_W", spread_of_window, window=10, lookback=lambda w: w - 1)
    register("GAP", gap, lookback=1, inputs=("open", "close"))
    register("FIVE", lambda a, b, c, d, e: a[0] + b[0] - c[0] * d[0] + e[0], lookback=0,
             inputs=("open", "high", "low", "logret", "volume"))  # fmt: skip
    bars = {**walk_bars(2000), "symbol": np.repeat(["A", "B"], [1300, 700])}
    s = spec(
        {"name": "a", "op": "SPREAD_W"},
        {"name": "b", "op": "EMA", "window": 5},
        {"name": "c", "op": "SPREAD_W", "source": "volume", "window": 700},
        {"name": "g", "op": "GAP"},
        {"name": "f", "op": "FIVE"},
        convention=convention,
    )
    got = build_features(bars, s)
    assert got.lookbacks[0] == 9
    for start, stop in ((0, 1300), (1300, 2000)):
        x = {n: bars[n][start:stop] for n in ("open", "high", "low", "close", "volume")}
        if convention == "legacy":
            x = {n: v.astype(np.float32).astype(np.float64) for n, v in x.items()}
        values = got.values[start:stop]
        for c, name, w in ((0, "close", 10), (2, "volume", 700)):
            if stop - start >= w:
                windows = np.lib.stride_tricks.sliding_window_view(x[name], w)
                want = (windows.max(axis=1) - windows.min(axis=1)).astype(np.float32)
                np.testing.assert_array_equal(values[w - 1 :, c], want)
        want = (x["open"][1:] - x["close"][:-1]).astype(np.float32)
        np.testing.assert_array_equal(values[1:, 3], want)
        ret = np.diff(np.log(x["close"]))
        want = (x["open"] + x["high"] + x["volume"])[1:] - x["low"][1:] * ret
        np.testing.assert_allclose(values[1:, 4], want, rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [lambda a, b, c: a[0] - 2 * b[0] + c[0], lambda a, b, c, d: a[0] - 2 * b[0] + c[0] * d[0]],
)
def test_inputs_come_in_their_order(function):
    inputs = ("open", "high", "low", "close")[: function.__code__.co_argcount]
    register("SEVERAL", function, lookback=0, inputs=inputs)
    bars = {name: np.array([float(3**i), 1.0]) for i, name in enumerate(inputs)}
    got = build_features(bars, spec({"name": "a", "op": "SEVERAL"})).values[0, 0]
    assert got == function(*bars.values())


def test_same_bits_in_threads_and_in_a_stream(walk_bars):
    register("SPREAD_W", spread_of_window, window=10, lookback=lambda w: w - 1)
    s = spec(*({"name": f"f{w}", "op": "SPREAD_W", "window": w} for w in range(1, 30)))
    bars = walk_bars(1500)
    want = build_features(bars, s, num_threads=1).values
    assert build_features(bars, s).values.tobytes() == want.tobytes()
    stream = FeatureStream(s, {"close": bars["close"][:1000]})
    for t in range(1000, 1500):
        assert stream.update({"close": bars["close"][t]}).tobytes() == want[t].tobytes()
    assert not check_leakage(s, bars).leaking


def test_the_spec_hash_tells_functions_apart():
    hashes = []
    for function in (spread_of_window, lambda x: x[0], lambda x: x[0] + 1.0):
        register("MINE", function, lookback=3)
        hashes.append(spec({"name": "a", "op": "MINE"}).hash)
        del OPS["MINE"]
    assert len(set(hashes)) == 3


def fails_late(x):
    if x[-1] > 7.0:
        raise ValueError("too high")
    return x[-1]


@pytest.mark.parametrize("threads", [1, None])
def test_an_exception_is_not_lost_in_a_thread(threads):
    register("LATE", fails_late, lookback=0)
    s = spec(*({"name": f"f{i}", "op": "LATE"} for i in range(40)))
    close = np.zeros(900)
    assert (build_features({"close": close}, s, num_threads=threads).values == 0).all()
    close[600] = 8.0
    with pytest.raises(OpError, match=r"feature 'f\d+': .* op 'LATE' raised at row 600"):
        build_features({"close": close}, s, num_threads=threads)
    stream = FeatureStream(s)
    with pytest.raises(OpError, match="raised at row 0"):
        stream.update({"close": 9.0})


@pytest.mark.parametrize("index", [3, 10**12, -4])
def test_a_function_that_reads_past_its_rows_is_told(index):
    register("PAST", lambda x: x[index], lookback=2)
    with pytest.raises(OpError, match="op 'PAST' raised at row 2"):
        build_features({"close": np.ones(9)}, spec({"name": "a", "op": "PAST"}))


def writes(x):
    x[0] = 1.0
    return x[0]


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (spread_of_window, {"lookback": -1}, "lookback is -1 for window 1"),
        (lambda x: (x[0], 1.0), {"lookback": 0}, "returns UniTuple.*; it must return a number"),
        (lambda x: np.linalg.nothing(x), {"lookback": 0}, "numba cannot compile"),
        (writes, {"lookback": 0}, "numba cannot compile writes for 1 read-only"),
        (spread_of_window, {"lookback": 0, "inputs": ("close", "high")}, "cannot compile"),
        (gap, {"lookback": 0, "inputs": ("close", "tick")}, "inputs is"),
        (gap, {"lookback": 0, "inputs": ()}, "inputs is"),
        (numba.njit(parallel=True)(spread_of_window), {"lookback": 0}, "without parallel"),
        (spread_of_window, {"lookback": 0, "window": 0}, "window is 0; allowed: 1..2147483647"),
        (gap, {"lookback": 0, "inputs": 3}, "inputs must be a sequence of column names or None"),
        (gap, {"lookback": 0, "inputs": "close"}, "inputs must be a sequence of column names"),
        (gap, {"lookback": 2**31}, "lookback is 2147483648 for window 1"),
        (gap, {"lookback": lambda: 1}, "lookback raised for window 1: TypeError"),
    ],
)
def test_why_a_function_cannot_join(function, options, message):
    with pytest.raises((OpError, TypeError), match=message):
        register("MINE", function, **options)
    assert "MINE" not in OPS


def test_wrong_types_and_names():
    with pytest.raises(OpError, match="name 'EMA' is an op already"):
        register("EMA", spread_of_window, lookback=1)
    with pytest.raises(TypeError, match="name must be a non-empty string"):
        register("", spread_of_window, lookback=1)
    with pytest.raises(TypeError, match="function must be a function, got 3"):
        register("MINE", 3, lookback=1)
    with pytest.raises(TypeError, match=r"lookback must be an int or give one, got 1\.5"):
        register("MINE", spread_of_window, lookback=1.5)
    register("MINE", spread_of_window, lookback=3)
    with pytest.raises(SpecError, match="unknown key 'window' for op MINE"):
        spec({"name": "a", "op": "MINE", "window": 3})
