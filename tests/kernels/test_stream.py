"""FeatureStream: bit for bit the rows of build_features, wherever the history ends."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfa_kernels import FeatureStream, build_features
from tfa_kernels.ops import CONVENTIONS

SOURCES = ("close", "volume", "logret")
COLUMNS = ("open", "high", "low", "close", "volume")


def cut(bars, start, stop):
    return {name: column[start:stop] for name, column in bars.items()}


def streamed(spec, bars, begin, stop=None):
    """The rows of updates from row `begin` on, the bars before being history."""
    rows = len(bars["close"]) if stop is None else stop
    stream = FeatureStream(spec, cut(bars, 0, begin))
    values = [stream.update({n: bars[n][t] for n in COLUMNS}) for t in range(begin, rows)]
    return np.array(values, np.float32).reshape(rows - begin, len(spec.features)), stream


def bits(values):
    # Any NaN is as good as another: compilers are free to choose its sign.
    return np.where(np.isnan(values), np.float32(np.nan), values).view(np.int32)


def assert_same_bits(got, want, names):
    assert got.shape == want.shape
    different = np.flatnonzero((bits(got) != bits(want)).any(axis=0))
    assert not different.size, [names[c] for c in different]


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("begin", [0, 1, 37, 511, 512, 1025, 4097])
def test_wherever_the_history_ends(every_op, convention, begin, walk_bars):
    bars = walk_bars(5000, seed=3)
    spec = every_op(convention, [1, 2, 14, 90], sources=SOURCES)
    want = build_features(bars, spec).values
    stop = min(begin + 1100, 5000)
    got, _ = streamed(spec, bars, begin, stop)
    assert_same_bits(got, want[begin:stop], spec.names)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_long_windows_spikes_gaps_and_flat_bars(every_op, convention, walk_bars):
    bars = walk_bars(3000, seed=5, level=1e5)
    bars["close"][700] = 1e9
    bars["close"][900] = np.nan
    bars["high"][1300] = np.inf
    bars["volume"][1500:1600] = 0.0
    for name in ("open", "high", "low", "close"):
        bars[name][2000:2300] = 100.0
    spec = every_op(convention, [3, 700], emit_from_index=40, pad_value=-1.0, sources=SOURCES)
    want = build_features(bars, spec).values
    for begin in (0, 650, 2999):
        got, _ = streamed(spec, bars, begin)
        assert_same_bits(got, want[begin:], spec.names)


@settings(max_examples=40, deadline=None)
@given(
    convention=st.sampled_from(CONVENTIONS),
    moves=st.lists(st.integers(-3, 3), min_size=1, max_size=70),
    window=st.integers(1, 40),
    begin=st.integers(0, 70),
)
def test_generated_bars(every_op, convention, moves, window, begin):
    close = 100 + np.cumsum(moves) / 100
    bars = dict.fromkeys(("open", "high", "low", "close"), close)
    bars["volume"] = np.abs(np.array(moves, np.float64))
    spec = every_op(convention, [window], sources=SOURCES)
    begin = min(begin, close.size)
    got, _ = streamed(spec, bars, begin)
    assert_same_bits(got, build_features(bars, spec).values[begin:], spec.names)


def test_memory_does_not_grow(every_op, walk_bars):
    bars = walk_bars(400)
    stream = FeatureStream(every_op("talib", [5, 50], sources=SOURCES), bars)
    before = len(pickle.dumps(stream))
    for t in range(3000):
        stream.update({n: bars[n][t % 400] for n in COLUMNS})
    assert stream.rows == 3400
    assert len(pickle.dumps(stream)) <= before + 16


def test_a_copy_goes_its_own_way(every_op, walk_bars):
    bars = walk_bars(600)
    spec = every_op("talib", [14], sources=SOURCES)
    stream = FeatureStream(spec, cut(bars, 0, 500))
    twin = stream.copy()
    odd = {n: 7.0 for n in COLUMNS}
    for _ in range(5):
        twin.update(odd)
    want = build_features(bars, spec).values
    for t in range(500, 520):
        row = stream.update({n: bars[n][t] for n in COLUMNS})
        assert_same_bits(row[None], want[t : t + 1], spec.names)
    assert (twin.rows, stream.rows) == (505, 520)


def test_a_pickled_stream_goes_on_in_another_process(every_op, walk_bars, run_script, tmp_path):
    bars = walk_bars(300, seed=9)
    spec = every_op("legacy", [20], sources=SOURCES)
    (tmp_path / "stream").write_bytes(pickle.dumps(FeatureStream(spec, cut(bars, 0, 200))))
    np.savez(tmp_path / "bars.npz", **bars)
    run_script(
        f"""
        import pickle, numpy as np
        stream = pickle.loads(open({str(tmp_path / "stream")!r}, "rb").read())
        bars = np.load({str(tmp_path / "bars.npz")!r})
        rows = [stream.update({{n: bars[n][t] for n in bars}}) for t in range(200, 300)]
        np.save({str(tmp_path / "rows.npy")!r}, np.array(rows))
        """
    )
    want = build_features(bars, spec).values[200:]
    assert_same_bits(np.load(tmp_path / "rows.npy"), want, spec.names)


def test_bars_as_objects_and_only_the_columns_needed():
    spec = {"schema_version": "2.0", "features": [{"name": "m", "op": "SMA", "window": 2}]}
    stream = FeatureStream(spec)
    assert stream.names == ("m",)
    assert stream.first_valid == 1
    assert np.isnan(stream.update(SimpleNamespace(close=1)))
    assert stream.update({"close": np.float32(3.0), "other": "x"}) == 2.0


def test_errors_leave_the_stream_as_it_was(every_op, walk_bars):
    bars = walk_bars(50)
    spec = every_op("talib", [5], sources=SOURCES)
    stream = FeatureStream(spec, cut(bars, 0, 40))
    bar = {n: bars[n][40] for n in COLUMNS}
    with pytest.raises(ValueError, match="bar has no 'volume', which the spec uses"):
        stream.update({n: bar[n] for n in COLUMNS[:4]})
    with pytest.raises(TypeError, match="bar 'high' must be a number, got '7'"):
        stream.update({**bar, "high": "7"})
    with pytest.raises(TypeError, match="bar 'close' must be a number, got True"):
        stream.update({**bar, "close": True})
    row = stream.update(bar)
    assert_same_bits(row[None], build_features(bars, spec).values[40:41], spec.names)
    two = {**bars, "symbol": np.repeat(["A", "B"], 25)}
    with pytest.raises(ValueError, match="history has several series; make a stream for each"):
        FeatureStream(spec, two)
    with pytest.raises(ValueError, match="bars has no column"):
        FeatureStream(spec, {"close": bars["close"]})
