"""Naive oracles of the ops that measure a bar by its range and volume; see ``reference``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

Series = list[float]
Bars = Mapping[str, Series]
Params = tuple[float, ...]


def _rows(bars: Bars, *names: str) -> Iterator[tuple[float, ...]]:
    return zip(*(bars[name] for name in names), strict=True)


def _log_ratio(a: float, b: float) -> float:
    """ln(a / b); not finite where a, b or the ratio is no positive number."""
    if b == 0 or not a / b > 0:
        return math.nan
    return math.log(a / b)


def _root_of_means(terms: Series, w: int) -> Series:
    out = [math.nan] * len(terms)
    for t in range(w - 1, len(terms)):
        window = terms[t - w + 1 : t + 1]
        if all(map(math.isfinite, window)):
            out[t] = math.sqrt(max(math.fsum(window) / w, 0.0))
    return out


def _parkinson(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    terms = [_log_ratio(h, low) ** 2 / (4 * math.log(2)) for h, low in _rows(bars, "high", "low")]
    return _root_of_means(terms, w)


def _garman_klass(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    terms = [
        _log_ratio(h, low) ** 2 / 2 - (2 * math.log(2) - 1) * _log_ratio(c, o) ** 2
        for o, h, low, c in _rows(bars, "open", "high", "low", "close")
    ]
    return _root_of_means([0.0, *terms[1:]] if legacy and terms else terms, w)


def _price_impact(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    close = bars["close"]
    out = [math.nan] * len(close)
    for t in range(1, len(close)):
        before, volume = close[t - 1], bars["volume"][t]
        if before <= 0 or volume <= 0:
            out[t] = 0.0
        else:
            out[t] = 1e6 * abs(close[t] - before) / before / math.sqrt(volume)
    return out


def _order_flow(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    return [
        ((c - low) / (h - low) - (h - c) / (h - low)) * v if h - low > 1e-8 else 0.0
        for h, low, c, v in _rows(bars, "high", "low", "close", "volume")
    ]


def _market_depth(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    return [
        (h - low) / math.log1p(v) if v > 1e-8 and h - low > 1e-8 else 0.0
        for h, low, v in _rows(bars, "high", "low", "volume")
    ]


def _bid_ask_ratio(bars: Bars, w: int, params: Params, legacy: bool) -> Series:
    kind = np.float32 if legacy else np.float64
    out = []
    with np.errstate(all="ignore"):
        for h, low, c in _rows(bars, "high", "low", "close"):
            extent = kind(h) - kind(low)
            place = (kind(c) - kind(low)) / extent
            ratio = place / (kind(1) - place + kind(1e-8))
            out.append(float(ratio) if extent > kind(1e-8) else 0.0)
    return out


ORACLES: dict[str, Callable[[Bars, int, Params, bool], Series]] = {
    "PARKINSON": _parkinson,
    "GARMAN_KLASS": _garman_klass,
    "PRICE_IMPACT": _price_impact,
    "ORDER_FLOW": _order_flow,
    "MARKET_DEPTH": _market_depth,
    "BID_ASK_RATIO": _bid_ask_ratio,
}
