"""What build_features accepts, refuses and keeps apart."""

from __future__ import annotations

import types

import numpy as np
import pytest

from tfa_kernels import build_features
from tfa_kernels.ops import CONVENTIONS, OPS

WINDOWED = [op for op, row in OPS.items() if row.window is not None]


def small_spec(convention="talib", **more):
    features = [
        {"name": f"{op}_{source}", "op": op, "source": source}
        | ({"window": 7} if op in WINDOWED else {})
        for op in OPS
        for source in ("close", "volume", "logret")
    ]
    return {"schema_version": "2.0", "convention": convention, "features": features, **more}


def joined(parts):
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("num_threads", [None, 1])
def test_series_do_not_touch(convention, num_threads, walk_bars):
    lengths = [600, 1, 0, 5, 700, 2]
    parts = [walk_bars(n, seed=n, level=10.0 * (i + 1)) for i, n in enumerate(lengths)]
    parts[0]["close"][-1] = np.nan
    spec = small_spec(convention, alignment_policy={"emit_from_index": 2, "pad_value": 5.0})
    want = np.concatenate([build_features(p, spec).values for p in parts])
    bars = joined(parts)
    symbol = np.repeat([f"S{i}" for i in range(len(lengths))], lengths)
    for labels in (symbol, symbol.astype(object), np.repeat(np.arange(len(lengths)), lengths)):
        got = build_features({**bars, "symbol": labels}, spec, num_threads=num_threads)
        assert np.array_equal(got.values, want, equal_nan=True)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    held = types.SimpleNamespace(**bars, offsets=offsets)
    got = build_features(held, spec, num_threads=num_threads)
    assert np.array_equal(got.values, want, equal_nan=True)


def test_no_row_sees_later_bars(walk_bars):
    bars = walk_bars(1500)
    for convention in CONVENTIONS:
        full = build_features(bars, small_spec(convention)).values
        for rows in (1, 8, 511, 512, 513, 1100):
            cut = {name: column[:rows] for name, column in bars.items()}
            part = build_features(cut, small_spec(convention)).values
            assert np.array_equal(part, full[:rows], equal_nan=True), rows


def test_kinds_of_bars_agree(walk_bars):
    bars = walk_bars(100)
    want = build_features(bars, small_spec()).values
    assert np.array_equal(
        build_features(types.SimpleNamespace(**bars), small_spec()).values, want, equal_nan=True
    )
    for library in ("pandas", "polars"):
        frame = pytest.importorskip(library).DataFrame({**bars, "symbol": ["A"] * 100})
        got = build_features(frame, small_spec()).values
        assert np.array_equal(got, want, equal_nan=True), library


def test_integer_strided_and_read_only_columns(walk_bars):
    bars = walk_bars(100)
    want = build_features(bars, small_spec()).values
    table = np.stack(list(bars.values()), axis=1)
    table.flags.writeable = False
    strided = dict(zip(bars, table.T, strict=True))
    assert not strided["close"].flags.c_contiguous
    assert np.array_equal(build_features(strided, small_spec()).values, want, equal_nan=True)
    whole = {**bars, "volume": bars["volume"].astype(np.int32)}
    assert np.array_equal(build_features(whole, small_spec()).values, want, equal_nan=True)


def test_out_is_filled_and_returned(walk_bars, tmp_path):
    bars = walk_bars(100)
    want = build_features(bars, small_spec()).values
    out = np.full(want.shape, 3, np.float32)
    assert build_features(bars, small_spec(), out).values is out
    assert np.array_equal(out, want, equal_nan=True)
    disk = np.memmap(tmp_path / "x", np.float32, "w+", shape=want.shape)
    build_features(bars, small_spec(), disk)
    disk.flush()
    stored = np.fromfile(tmp_path / "x", np.float32).reshape(want.shape)
    assert np.array_equal(stored, want, equal_nan=True)


def bad_outs(shape):
    rows, columns = shape
    frozen = np.zeros(shape, np.float32)
    frozen.flags.writeable = False
    raw = np.zeros(rows * columns * 4 + 1, np.uint8)
    return {
        "shape": np.zeros((rows, columns + 1), np.float32),
        "dtype": np.zeros(shape, np.float64),
        "C-contiguous": np.zeros((columns, rows), np.float32).T,
        "read-only": frozen,
        "aligned": raw[1:].view(np.float32).reshape(shape),
        "numpy array": np.zeros(shape).tolist(),
    }


def test_bad_out_is_refused(walk_bars):
    bars = walk_bars(20)
    columns = len(small_spec()["features"])
    for word, out in bad_outs((20, columns)).items():
        with pytest.raises((ValueError, TypeError), match=word):
            build_features(bars, small_spec(), out)
    block = np.ones(20 * columns, np.float32)
    overlapping = {**bars, "close": block[:20]}
    with pytest.raises(ValueError, match="overlaps bars column 'close'"):
        build_features(overlapping, small_spec(), block.reshape(20, columns))
    assert (block == 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"volume": None}, "no column 'volume'"),
        ({"volume": np.ones(19)}, "differ in length"),
        ({"volume": np.ones((20, 1))}, "1-D"),
        ({"volume": np.array(["1"] * 20)}, "numeric"),
        ({"volume": np.ones(20, bool)}, "numeric"),
        ({"volume": np.ones(20, complex)}, "numeric"),
        ({"symbol": ["A"] * 19}, "'symbol' has shape"),
        ({"symbol": ["A"] * 5 + ["B"] * 5 + ["A"] * 10}, r"sort the bars by \(symbol, ts\)"),
        ({"symbol": ["A"] * 19 + [None]}, "missing values"),
        ({"symbol": np.r_[np.ones(19), np.nan]}, "missing values"),
    ],
)
def test_bad_bars_are_refused(change, message, walk_bars):
    with pytest.raises((ValueError, TypeError), match=message):
        build_features({**walk_bars(20), **change}, small_spec())


@pytest.mark.parametrize(
    "offsets", [[0, 19], [1, 20], [0, 12, 11, 20], [0.0, 20.0], [], [[0, 20]], [0, 21]]
)
def test_bad_offsets_are_refused(offsets, walk_bars):
    bars = types.SimpleNamespace(**walk_bars(20), offsets=np.array(offsets))
    with pytest.raises(ValueError, match="offsets"):
        build_features(bars, small_spec())
