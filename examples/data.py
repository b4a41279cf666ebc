"""Made-up data for the examples: the same for the same number of rows."""

from __future__ import annotations

import numpy as np

from tfa_perf.data import synthetic_bars

COLUMNS = ("open", "high", "low", "close", "volume")


def table(rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """X float32 [rows, 55] and labels y float32 [rows]."""
    X = np.random.default_rng(0).standard_normal((rows, 55), dtype=np.float32)
    return X, (X[:, :5].sum(axis=1) > 0).astype(np.float32)


def columns(rows: int = 200_000) -> dict[str, np.ndarray]:
    """Synthetic minute bars, column by column."""
    bars = synthetic_bars(rows)
    return {name: getattr(bars, name) for name in COLUMNS}


def live_bars(rows: int = 1_100) -> list[dict[str, float]]:
    """The same, a bar at a time, as a feed delivers them."""
    made = columns(rows)
    return [
        dict(zip(made, map(float, bar), strict=True)) for bar in zip(*made.values(), strict=True)
    ]
