from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest

from tfa_kernels import Feature, FeatureSpec, _plan, load_spec
from tfa_kernels import _features_nb as nb
from tfa_kernels.ops import OPS, SOURCES

Bars = dict[str, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if numba.config.DISABLE_JIT:
        for item in items:
            if item.get_closest_marker("compiled"):
                item.add_marker(pytest.mark.skip(reason="nothing is compiled here"))


@pytest.fixture(scope="session")
def walk_bars() -> Callable[..., Bars]:
    """Bars of a random walk in cents, with flat stretches."""

    def make(rows: int, seed: int = 0, level: float = 100.0) -> Bars:
        rng = np.random.default_rng(seed)
        steps = rng.integers(-20, 21, rows) * (rng.random(rows) < 0.8)
        close = np.maximum(level + np.cumsum(steps) / 100, 0.01)
        spread = rng.integers(0, 10, (2, rows)) / 100
        return {
            "open": np.concatenate((close[:1], close[:-1])),
            "high": close + spread[0],
            "low": np.maximum(close - spread[1], 0.01),
            "close": close,
            "volume": rng.integers(0, 10_000, rows).astype(np.float64),
        }

    return make


@pytest.fixture(scope="session")
def legacy_bound() -> Callable[[Feature], float]:
    """How far a column may be from a legacy one, over the column's largest magnitude.

    1.5 times the largest deviation of exact arithmetic from a legacy builder's own output on real
    minute bars.
    """
    largest = {
        "VOLATILITY": 4.3e-3,
        "ZWIN": 1.0e-2,
        "BOLLINGER_UPPER": 7.9e-4,
        "BOLLINGER_LOWER": 7.9e-4,
        "CCI": 1.4e-4,
        "RSI logret": 5.4e-4,
    }

    def bound(feature: Feature) -> float:
        of_source = largest.get(f"{feature.op} {feature.source}", 2e-4)
        return 1.5 * largest.get(feature.op, of_source)

    return bound


@pytest.fixture(scope="session")
def run_script() -> Callable[..., str]:
    """Run Python source in a fresh process; return its stdout, fail on a non-zero exit."""

    def run(
        source: str,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        stdin: str | None = None,
    ) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source)],
            env={**os.environ, "OMP_NUM_THREADS": "2", **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            input=stdin,
        )
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def every_op() -> Callable[..., FeatureSpec]:
    """A spec of every op over every window and source that it takes."""

    def make(
        convention: str,
        windows: Iterable[int] = (2, 14, 60),
        sources: Iterable[str] = SOURCES,
        **policy: float,
    ) -> FeatureSpec:
        features: list[dict[str, object]] = []
        for op, row in OPS.items():
            for source in ["close"] if row.inputs else sources:
                for w in windows if row.window is not None else [None]:
                    entry = {"name": f"{op}_{source}_{w}", "op": op, "source": source}
                    features.append(entry if w is None else {**entry, "window": w})
        raw = {"schema_version": "2.0", "convention": convention, "features": features}
        return load_spec({**raw, "alignment_policy": policy} if policy else raw)

    return make


@pytest.fixture(scope="session")
def build_in_chunks() -> Callable[..., npt.NDArray[np.float32]]:
    """``build(bars, spec, rows)``: the features of one series, so many rows to a call."""

    def build(bars: Bars, spec: FeatureSpec, rows: int) -> npt.NDArray[np.float32]:
        plan = _plan.plan_columns(spec, 0, len(spec.features), None)
        columns = _plan.kernel_bars(bars)
        legacy = spec.convention == "legacy"
        sizes = (plan.sources.size, plan.row_capacity, plan.memory)
        state = nb.new_state(len(spec.features), *sizes)
        fill = 0.0 if legacy else np.nan
        out = np.empty((len(bars["close"]), len(spec.features)), np.float32)
        for start in range(0, len(out), rows):
            chunk = [column[start : start + rows] for column in columns]
            nb.rows(
                *chunk, plan.units, plan.sources, _plan.lookbacks(spec), _plan.params(spec),
                legacy, fill, spec.emit_from_index, spec.pad_value, plan.history, *state, start,
                out[start : start + rows],
            )  # fmt: skip
        return out

    return build
