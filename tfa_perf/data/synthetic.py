"""Seeded minute bars with the stylised facts of an equity index future or ETF."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tfa_perf.data.bars import Bars

MINUTES = 390
MAX_ROWS = 25_000_000
_MINUTE_NS = 60 * 10**9
_DAY_NS = 86_400 * 10**9
# Monday 2000-01-03, 14:30 UTC.
_FIRST_BAR_NS = 946_909_800 * 10**9
_TICK = 0.01
_START_PRICE = 100.0
_MINUTE_VOL = 6e-4
_GAP_VOL = 6e-3
_PULL = 0.002


def synthetic_bars(n: int, seed: int = 0, symbols: int = 1) -> Bars:
    """`n` made-up minute bars, the same for the same arguments everywhere.

    Sessions have 390 minutes from 14:30 UTC (no daylight saving) on every weekday from
    2000-01-03. Volatility clusters: its logarithm is an AR(1) over days plus an AR(1) over the
    minutes of a session (Taylor's stochastic volatility model), times a U shape over the session.
    Volume follows volatility and the same U shape. Prices gap overnight, move in ticks of 0.01
    and are pulled weakly towards 100, so that a long series neither dies out nor explodes. About
    2 % of the minutes have no trade (volume 0, all prices those of the close before) and about
    1 % trade at one price.

    Rounding to ticks and whole shares hides last-bit differences between math libraries; the
    random numbers are PCG64's.

    Parameters
    ----------
    n : rows in all, 1 to 25,000,000.
    seed : not negative.
    symbols : number of series, called SYN0, SYN1, ...; the rows are split as evenly as can be.

    Raises
    ------
    ValueError : an argument outside these ranges.
    """
    if not 1 <= n <= MAX_ROWS:
        raise ValueError(f"n must be 1 to {MAX_ROWS} rows, got {n}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if not 1 <= symbols <= n:
        raise ValueError(f"symbols must be 1 to n = {n}, got {symbols}")
    sizes = [n // symbols + (s < n % symbols) for s in range(symbols)]
    series = [_one_series(size, seed, s) for s, size in enumerate(sizes)]
    columns = {name: np.concatenate([one[name] for one in series]) for name in series[0]}
    return Bars(
        ts=np.concatenate([_session_times(size) for size in sizes]),
        **columns,
        symbols=tuple(f"SYN{s}" for s in range(symbols)),
        offsets=np.cumsum([0, *sizes], dtype=np.int64),
    )


def _session_times(n: int) -> npt.NDArray[np.int64]:
    day, minute = np.divmod(np.arange(n, dtype=np.int64), MINUTES)
    calendar_day = day // 5 * 7 + day % 5
    return _FIRST_BAR_NS + calendar_day * _DAY_NS + minute * _MINUTE_NS


def _one_series(n: int, seed: int, index: int) -> dict[str, npt.NDArray[np.float64]]:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,))))
    days = -(-n // MINUTES)
    shape = (days, MINUTES)
    # 1 in the first and the last minute, 0 at midday.
    edge = np.linspace(-1, 1, MINUTES) ** 2

    day_level = _ar1(rng.standard_normal((1, days)), 0.97, 0.45)[0]
    level = _ar1(rng.standard_normal(shape), 0.98, 0.4) + day_level[:, None]
    returns = _MINUTE_VOL * np.exp(level) * (0.6 + 0.9 * edge) * rng.standard_normal(shape)

    kind = rng.random(shape)
    # Never in the first minute, whose price has gapped away from the close before.
    silent = kind < 0.03 * (1 - edge)
    one_price = kind > 0.99
    returns[silent] = 0.0
    gaps = _GAP_VOL * np.exp(day_level) * rng.standard_normal(days)
    start = _session_starts(gaps, returns.sum(axis=1))
    close = np.exp(start[:, None] + np.cumsum(returns, axis=1))
    close = np.maximum(np.rint(close / _TICK), 1.0)

    # Prices are whole ticks from here on.
    open_ = np.empty(shape)
    open_[:, 0] = np.maximum(np.rint(np.exp(start) / _TICK), 1.0)
    bounce = np.rint(0.6 * rng.standard_normal((days, MINUTES - 1)))
    open_[:, 1:] = np.maximum(close[:, :-1] + bounce, 1.0)
    open_ = np.where(silent | one_price, close, open_)
    wick = _MINUTE_VOL * np.exp(level) * ~(silent | one_price) * close
    high = np.maximum(open_, close) + np.rint(0.4 * wick * np.abs(rng.standard_normal(shape)))
    low = np.minimum(open_, close) - np.rint(0.4 * wick * np.abs(rng.standard_normal(shape)))
    low = np.maximum(low, 1.0)

    size = np.exp(0.8 * level + 0.5 * rng.standard_normal(shape)) * (0.4 + 2.0 * edge)
    volume = np.where(silent, 0.0, 1.0 + np.rint(5_000 * np.where(one_price, 0.05, 1.0) * size))

    prices = {"open": open_, "high": high, "low": low, "close": close}
    out = {name: np.rint(ticks.ravel()[:n]) / 100 for name, ticks in prices.items()}
    out["volume"] = volume.ravel()[:n].copy()
    return out


def _ar1(
    noise: npt.NDArray[np.float64], persistence: float, deviation: float
) -> npt.NDArray[np.float64]:
    """Stationary AR(1) along the last axis with the given standard deviation. In place."""
    noise *= deviation
    innovation = math.sqrt(1 - persistence**2)
    for t in range(1, noise.shape[1]):
        noise[:, t] = persistence * noise[:, t - 1] + innovation * noise[:, t]
    return noise


def _session_starts(
    gaps: npt.NDArray[np.float64], moves: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Log price at which each session opens."""
    home = math.log(_START_PRICE)
    starts = np.empty(gaps.size)
    before = home
    for day in range(gaps.size):
        starts[day] = before + gaps[day] - _PULL * (before - home)
        before = starts[day] + moves[day]
    return starts
