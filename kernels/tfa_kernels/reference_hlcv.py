"""Naive oracles of ops that read several bar columns: volume totals, ranges, extremes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise

import numpy as np

Series = list[float]
Bars = Mapping[str, Series]
Params = tuple[float, ...]


def _finite(*values: float) -> bool:
    return all(map(math.isfinite, values))


def _divided(a: float, b: float) -> float:
    with np.errstate(all="ignore"):
        return float(np.float64(a) / np.float64(b))


def _bars(bars: Bars, *names: str) -> list[tuple[float, ...]]:
    return list(zip(*(bars[name] for name in names), strict=True))


def _obv(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    steps = [0.0 if legacy else v for v in bars["volume"][:1]]
    for (before, _), (now, volume) in pairwise(_bars(bars, "close", "volume")):
        if math.isnan(now - before):
            steps.append(math.nan)
        elif now == before:
            steps.append(0.0)
        else:
            steps.append(volume if now > before else -volume)
    return list(accumulate(steps))


def _vpt(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    steps = [0.0 for _ in bars["close"][:1]]
    for (before, _), (now, volume) in pairwise(_bars(bars, "close", "volume")):
        steps.append(volume * _divided(now - before, before))
    return list(accumulate(steps))


def _ad_line(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    steps: Series = []
    for high, low, close, volume in _bars(bars, "high", "low", "close", "volume"):
        span = high - low
        if span <= (1e-8 if legacy else 0.0) or (legacy and not steps):
            steps.append(0.0)
        else:
            steps.append(volume * _divided((close - low) - (high - close), span))
    return list(accumulate(steps))


def _true_ranges(bars: Bars) -> Series:
    """True ranges of rows 1, 2, ...; row 0 has none."""
    ranges = [math.nan]
    for (_, _, before), (high, low, _) in pairwise(_bars(bars, "high", "low", "close")):
        if _finite(high, low, before):
            ranges.append(max(high - low, abs(high - before), abs(low - before)))
        else:
            ranges.append(math.nan)
    return ranges


def _atr(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    ranges = _true_ranges(bars)
    out = [math.nan] * len(bars["close"])
    for t in range(w, len(out)):
        out[t] = sum(ranges[1 : w + 1]) / w if t == w else (out[t - 1] * (w - 1) + ranges[t]) / w
    return out


def _wilder_sums(values: Series, seed: int, w: int) -> Series:
    """S_seed is the sum of rows 1..seed; S_t = S_{t-1} - S_{t-1} / w + v_t."""
    sums = [math.nan] * len(values)
    for t in range(seed, len(values)):
        sums[t] = (
            sum(values[1 : seed + 1]) if t == seed else sums[t - 1] - sums[t - 1] / w + values[t]
        )
    return sums


def _adx(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    plus, minus = [math.nan], [math.nan]
    for (high, low), (now_high, now_low) in pairwise(_bars(bars, "high", "low")):
        up, down = now_high - high, low - now_low
        plus.append(up if up > max(down, 0.0) else 0.0)
        minus.append(down if down > max(up, 0.0) else 0.0)
    columns = (plus, minus, _true_ranges(bars))
    sums = [_wilder_sums(column, w if legacy else w - 1, w) for column in columns]
    rows = len(bars["close"])
    zero = 1e-8 if legacy else 1e-250
    dx: list[float | None] = [None] * rows
    for t in range(w, rows):
        p, m, s = (column[t] for column in sums)
        if not s < zero and not p + m < zero:
            dx[t] = 100.0 * _divided(abs(p - m), p + m) if not math.isnan(s) else math.nan
    if legacy:
        return [value or 0.0 for value in dx]
    out = [math.nan] * rows
    for t in range(2 * w - 1, rows):
        value = dx[t]
        if t == 2 * w - 1:
            out[t] = sum(v or 0.0 for v in dx[w : 2 * w]) / w
        else:
            out[t] = out[t - 1] if value is None else (out[t - 1] * (w - 1) + value) / w
    return out


def _extremes(bars: Bars, w: int, legacy: bool) -> list[tuple[float, float]]:
    """Highest high and lowest low, NaN where one of them is not finite."""
    rows = w + 1 if legacy else w
    out = [(math.nan, math.nan)] * len(bars["close"])
    for t in range(rows - 1, len(out)):
        highs = bars["high"][t - rows + 1 : t + 1]
        lows = bars["low"][t - rows + 1 : t + 1]
        if _finite(*highs, *lows):
            out[t] = max(highs), min(lows)
    return out


def _between(a: float, b: float, low: float, high: float, legacy: bool) -> float:
    """100 (b - a) / (high - low)."""
    if not _finite(a, b, low, high):
        return math.nan
    flat = high <= low if legacy else high - low <= 1e-14 * (abs(high) + abs(low))
    return 0.0 if flat else 100.0 * (b - a) / (high - low)


def _stochastic_k(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    extremes = zip(_extremes(bars, w, legacy), bars["close"], strict=True)
    return [_between(low, close, low, high, legacy) for (high, low), close in extremes]


def _stochastic_d(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    d = int(params[0])
    k = _stochastic_k(bars, w, params, legacy)
    out = [math.nan] * len(k)
    for t in range(d - 1, len(k)):
        out[t] = math.fsum(k[t - d + 1 : t + 1]) / d
    return out


def _williams_r(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    extremes = zip(_extremes(bars, w, legacy), bars["close"], strict=True)
    return [-_between(close, high, low, high, legacy) for (high, low), close in extremes]


def _typical(bars: Bars, legacy: bool) -> Series:
    prices = []
    with np.errstate(all="ignore"):
        for high, low, close in _bars(bars, "high", "low", "close"):
            if legacy:
                total = np.float32(high) + np.float32(low) + np.float32(close)
                prices.append(float(total / np.float32(3.0)))
            else:
                prices.append((high + low + close) / 3.0)
    return prices


def _move(before: float, now: float, legacy: bool) -> float:
    tie = not legacy and abs(now - before) <= 1e-14 * (abs(now) + abs(before))
    return 0.0 if tie else now - before


def _mfi(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    price, volume = _typical(bars, legacy), bars["volume"]
    out = [math.nan] * len(price)
    for t in range(w, len(price)):
        rows = range(t - w + 1, t + 1)
        if not _finite(*price[t - w : t + 1], *(volume[j] for j in rows)):
            continue
        moves = [_move(price[j - 1], price[j], legacy) for j in rows]
        flows = [price[j] * volume[j] for j in rows]
        rising = math.fsum(f for f, move in zip(flows, moves, strict=True) if move > 0.0)
        falling = math.fsum(f for f, move in zip(flows, moves, strict=True) if move < 0.0)
        if legacy:
            out[t] = 100.0 - 100.0 / (1.0 + rising / falling) if falling > 1e-8 else 0.0
        else:
            out[t] = 100.0 * rising / (rising + falling) if rising + falling > 0.0 else 0.0
    return out


def _cci(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    price = _typical(bars, legacy)
    out = [math.nan] * len(price)
    for t in range(w - 1, len(price)):
        window = price[t - w + 1 : t + 1]
        if _finite(*window):
            # About the newest price: its distance from a mean rounded on its own may be all noise.
            moves = [value - price[t] for value in window]
            mean = math.fsum(moves) / w
            d = math.fsum(abs(move - mean) for move in moves) / w
            zero = 1e-8 if legacy else 1e-14 * abs(price[t] + mean)
            flat = d <= zero or (not legacy and abs(mean) <= zero)
            out[t] = 0.0 if flat else -mean / (0.015 * d)
    return out


HLCV: dict[str, Callable[[Bars, int, Params, bool], Series]] = {
    "OBV": _obv,
    "VPT": _vpt,
    "AD_LINE": _ad_line,
    "ATR": _atr,
    "ADX": _adx,
    "STOCHASTIC_K": _stochastic_k,
    "STOCHASTIC_D": _stochastic_d,
    "WILLIAMS_R": _williams_r,
    "MFI": _mfi,
    "CCI": _cci,
}
HLCV_FIRST_LEGACY: dict[str, Callable[[int, Params], int]] = {
    "OBV": lambda w, p: 0,
    "VPT": lambda w, p: 0,
    "AD_LINE": lambda w, p: 0,
    "ATR": lambda w, p: w,
    "ADX": lambda w, p: 2 * w,
    "STOCHASTIC_K": lambda w, p: w,
    "STOCHASTIC_D": lambda w, p: w + int(p[0]) - 1,
    "WILLIAMS_R": lambda w, p: w,
    "MFI": lambda w, p: w,
    "CCI": lambda w, p: w,
}
