"""Arguments of any kind: the oracle's answer, or an error that names one of them."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.odd_arguments import DTYPES, ODD, arrays, fuzz, odd_shapes, often, outcome
from tfa_kernels import FeatureStream, build_features, check_leakage, gather_windows, reference
from tfa_kernels.ops import CONVENTIONS, OPS
from tfa_kernels.order import RunIndex, permuted_range
from tfa_kernels.windows import WindowGather

shapes = st.tuples(st.integers(0, 12), st.integers(0, 4))


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
    out = None
    if not draw(st.integers(0, 2)):
        out = often(draw, arrays(often(draw, st.just((rows, 1)), odd_shapes)), ODD)
        column = bars.get("close")
        if isinstance(column, np.ndarray) and column.dtype == np.float32 and draw(st.booleans()):
            out = column.reshape(-1, 1)
    return {"bars": bars, "spec": spec, "num_threads": threads, "out": out}


SPEC_NAMES = ["bars?", "open", "high", "low", "close", "volume", "spec", "window", "op"]
SPEC_NAMES += ["features?", "convention", "schema_version", "rows"]


def is_huge(column):
    """Whether it holds a finite value whose square the oracle's float64 does not take."""
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "iuf":
        return False
    return bool((np.abs(column[np.isfinite(column)].astype(np.float64)) > 1e6).any())


@fuzz
@given(builds())
def test_build_features(arguments):
    out = arguments["out"]
    before = out.copy() if isinstance(out, np.ndarray) else None
    got = outcome(build_features, arguments, [*SPEC_NAMES, "num_threads", "out"])
    if got is None and before is not None:
        np.testing.assert_array_equal(out, before)
    if got is None or any(map(is_huge, arguments["bars"].values())):
        return
    with np.errstate(over="ignore"):
        want = reference.build_features(arguments["bars"], arguments["spec"]).astype(np.float32)
    assert got.values.shape == want.shape and (out is None or got.values is out)
    scale = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
    np.testing.assert_allclose(got.values, want, rtol=1e-5, atol=1e-5 * scale + 1e-12)


@st.composite
def streams(draw):
    given = draw(builds())
    number = st.floats(1, 200) | st.integers(1, 200)
    names = ["open", "high", "low", "close", "volume"]
    bars = [
        {name: often(draw, number, ODD) for name in names} for _ in range(draw(st.integers(0, 3)))
    ]
    return {"spec": given["spec"], "history": given["bars"]}, bars


@fuzz
@given(streams())
def test_a_stream(arguments):
    given, bars = arguments
    stream = outcome(FeatureStream, given, [*SPEC_NAMES, "history"])
    if stream is None:
        return
    columns = given["history"]
    for bar in bars:
        row = outcome(stream.update, {"bar": bar}, [*SPEC_NAMES, "bar"])
        if row is None:
            continue
        read = stream._spec.bar_columns
        columns = {name: np.append(columns[name], float(bar[name])) for name in read}
        want = build_features(columns, given["spec"]).values[-1]
        np.testing.assert_array_equal(row, want)
        assert stream.rows == len(columns[read[0]])


@st.composite
def conversions(draw):
    given = draw(gathers())
    X = given.pop("X")
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype == np.float32:
        X = X.astype(often(draw, st.sampled_from(["f2", "f4", "f8"]), DTYPES))
    columns = X.shape[1] if isinstance(X, np.ndarray) and X.ndim == 2 else 2
    rows = len(X) if isinstance(X, np.ndarray) and X.ndim else 3
    numbers = st.floats(-3, 3, width=16)
    several = st.lists(numbers, min_size=columns, max_size=columns)
    scaled = draw(st.booleans())
    shift = often(draw, several if scaled else st.none(), ODD | st.lists(numbers, max_size=5))
    factor = often(draw, several if scaled else st.none(), ODD | st.lists(numbers, max_size=5))
    dtype = often(draw, st.sampled_from([None, "f2", "f4", "f8"]), DTYPES | ODD)
    labels = draw(st.none() | arrays(often(draw, st.just((rows,)), odd_shapes)) | ODD)
    horizon = often(draw, st.integers(0, 3), st.integers(-2, 20) | ODD)
    options = {"dtype": dtype, "shift": shift, "factor": factor, "labels": labels}
    return {"X": X, "window": given["window"], **options, "horizon": horizon,
            "num_threads": given["num_threads"]}, given["starts"]  # fmt: skip


@fuzz
@given(conversions())
def test_a_converting_gather(arguments):
    given, starts = arguments
    names = ["X", "window", "out", "shift", "factor", "labels", "horizon", "num_threads", "dtype"]
    gather = outcome(WindowGather, given, names)
    first = None if gather is None else outcome(gather.checked, {"starts": starts}, ["starts"])
    if first is None:
        return
    X, window, shift, labels = (given[name] for name in ("X", "window", "shift", "labels"))
    rows = reference.gather_windows(X, first, window)
    dtype = X.dtype if given["dtype"] is None else np.dtype(given["dtype"])
    out = np.empty(rows.shape, dtype)
    kept = np.zeros(len(first) if labels is not None else 0, getattr(labels, "dtype", bool))
    gather.fill_checked(
        first, out.reshape(-1).view(np.uint8), None if labels is None else kept.view(np.uint8)
    )
    if labels is not None:
        np.testing.assert_array_equal(kept, labels[first + window - 1 + given["horizon"]])
    if "u" in (X.dtype.kind, dtype.kind) and gather._converts:
        return
    if gather._converts:
        rows = rows.astype(np.float32)
    if shift is not None:
        rows = (rows - np.float32(shift)) * np.float32(given["factor"])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out, rows.astype(dtype))
    # Buffers of the wrong size, kind or layout.
    for wrong in (out.reshape(-1), np.empty(out.nbytes + 1, np.uint8), [0]):
        if out.size and outcome(gather.fill_checked, {"first": first, "out": wrong}, ["out"]):
            raise AssertionError(wrong)


@fuzz
@given(st.data())
def test_permuted_range(data):
    count = often(data.draw, st.integers(0, 50), st.integers(-(2**70), 2**70) | ODD)
    within = count if type(count) is int and 0 <= count < 100 else 5
    stop = often(data.draw, st.integers(0, within), st.integers(-2, 60) | ODD)
    start = often(data.draw, st.integers(0, stop if type(stop) is int and stop > 0 else 0), ODD)
    keys = np.arange(8, dtype=np.uint32)
    keys = often(data.draw, st.just(keys), ODD | arrays(data.draw(odd_shapes)))
    threads = often(data.draw, st.sampled_from([None, 1, 2]), ODD)
    given = {"start": start, "stop": stop, "count": count, "keys": keys, "num_threads": threads}
    got = outcome(permuted_range, given, list(given))
    if got is not None and count < 100:
        whole = permuted_range(0, count, count, keys)
        np.testing.assert_array_equal(got, whole[start:stop])
        np.testing.assert_array_equal(np.sort(whole), np.arange(count))


@fuzz
@given(st.data())
def test_run_index(data):
    sizes = data.draw(st.lists(st.integers(1, 9), max_size=5))
    usual = np.cumsum([0, *sizes])
    windows = often(data.draw, st.just(usual), ODD | arrays(data.draw(odd_shapes)))
    ends = often(data.draw, st.just(usual[1:] * 3), ODD | arrays(data.draw(odd_shapes)))
    stride = often(data.draw, st.integers(1, 3), ODD)
    given = {"windows": windows, "ends": ends, "stride": stride}
    index = outcome(RunIndex, given, list(given))
    if index is None or windows is not usual or ends[:1].tolist() != (usual[1:] * 3)[:1].tolist():
        return
    want = [end + stride * i for end, size in zip(ends, sizes, strict=True) for i in range(size)]
    np.testing.assert_array_equal(index.last_rows(np.arange(index.count)), want)
    odd = data.draw(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 40), max_size=3))
    try:
        got = index.last_rows(np.array(odd, np.int64))
    except IndexError as error:
        assert "window" in str(error)
    else:
        np.testing.assert_array_equal(got, [want[number] for number in odd])


@settings(fuzz, max_examples=max(20, fuzz.max_examples // 10))
@given(builds(), st.data())
def test_check_leakage(given, data):
    checks = often(data.draw, st.integers(1, 2), ODD)
    rtol = often(data.draw, st.just(1e-6), ODD)
    lookbacks = often(data.draw, st.none(), ODD | st.just({"a": 3}))
    given = {**given, "checks": checks, "rtol": rtol, "lookbacks": lookbacks}
    del given["num_threads"], given["out"]
    names = [*SPEC_NAMES, "checks", "rtol", "lookbacks"]
    report = outcome(check_leakage, given, names)
    if report is not None:
        assert report.rows == len(next(iter(given["bars"].values())))
