"""What the leakage check says, refuses and leaves alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tfa_kernels import LeakageError, check_leakage, load_spec
from tfa_kernels.ops import CONVENTIONS


def spec_of(convention, *windows):
    features = [
        {"name": f"{op}_{w}", "op": op, "window": w}
        for op in ("SMA", "EMA", "VOLATILITY")
        for w in windows
    ]
    return load_spec({"schema_version": "2.0", "convention": convention, "features": features})


@pytest.fixture(scope="module")
def frame(walk_bars):
    return pd.DataFrame(walk_bars(600, seed=1))


def test_the_report_reads_and_raises(frame):
    def build(b):
        return pd.DataFrame({"next": b["close"].shift(-1), "total": b["close"].cumsum()})

    report = check_leakage(None, frame, build=build)
    text = str(report)
    assert "2 features, 600 rows in 1 series" in text
    assert "next: look-ahead: row" in text
    assert "total: more than these bars have (undeclared)" in text
    with pytest.raises(LeakageError, match="next: look-ahead"):
        report.raise_if_leaking()
    check_leakage(spec_of("talib", 3, 50), frame).raise_if_leaking()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_bars_too_short_to_say_anything_do_not_pass(convention, walk_bars):
    spec = spec_of(convention, 3, 500)
    report = check_leakage(spec, walk_bars(400))
    assert report.leaking == ()
    assert "SMA_500" in report.untested and "SMA_3" not in report.untested
    assert "SMA_500: not tested" in str(report)
    with pytest.raises(LeakageError, match="not tested"):
        report.raise_if_leaking()


def test_the_bars_given_are_left_alone(walk_bars):
    def build(b):
        b["close"] += 1.0
        b["more"] = b["close"]
        return np.asarray(b["close"])[:, None]

    for bars in (walk_bars(50), pd.DataFrame(walk_bars(50))):
        before = {name: np.array(bars[name]) for name in bars}
        assert check_leakage(None, bars, build=build).features[0].name == "0"
        assert list(bars) == list(before)
        for name, values in before.items():
            np.testing.assert_array_equal(bars[name], values)


def test_arguments(walk_bars):
    bars, spec = walk_bars(50), spec_of("talib", 3)
    x = lambda b: np.asarray(b["close"])[:, None]  # noqa: E731
    with pytest.raises(ValueError, match="spec is None; give a spec"):
        check_leakage(None, bars)
    with pytest.raises(ValueError, match="lookbacks is given beside a spec"):
        check_leakage(spec, bars, lookbacks={"x": 1})
    with pytest.raises(ValueError, match=r"lookbacks names \['y'\]"):
        check_leakage(None, bars, build=x, lookbacks={"y": 1})
    for checks in (0, True, 1.5):
        with pytest.raises(ValueError, match="checks must be an integer"):
            check_leakage(spec, bars, checks=checks)
    for rtol in (-1e-9, 1.0, np.nan):
        with pytest.raises(ValueError, match="rtol is"):
            check_leakage(spec, bars, rtol=rtol)
    with pytest.raises(ValueError, match="bars has 1 rows; at least 2"):
        check_leakage(spec, walk_bars(1))
    with pytest.raises(ValueError, match="columns of one length"):
        check_leakage(spec, {**bars, "close": bars["close"][1:]})
    with pytest.raises(ValueError, match="build returned 48 rows for 50 bars"):
        check_leakage(None, bars, build=lambda b: x(b)[2:])
    with pytest.raises(ValueError, match=r"numbers as \[N, F\], got shape \(50,\)"):
        check_leakage(None, bars, build=lambda b: b["close"])
    with pytest.raises(ValueError, match="build returned 1 columns for"):
        check_leakage(spec, bars, build=x)
