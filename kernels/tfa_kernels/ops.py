"""The op registry: one row per op that is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tfa_kernels import _features_nb as nb

CONVENTIONS = ("legacy", "talib")


FirstRow = Callable[[int, tuple[float, ...]], int]


@dataclass(frozen=True)
class Op:
    """What the spec and the kernel need to know about an op.

    code: its number in the kernel. window: default window, None where the op has none.
    legacy, talib: first row with a value, counted from the first row of its source, for a window
    and the values of params. cost: time per row relative to EMA; it shares columns out among
    threads. inputs: the bar or DERIVED columns it reads, none where it reads the feature's source.
    params: names and defaults of further keys, integers where the default is one. side_by_side:
    whether the kernel takes several columns of one source together. memory: floats that a column
    keeps between tiles, for a window and params no larger than the longest series.
    """

    code: int
    window: int | None
    legacy: FirstRow
    talib: FirstRow
    cost: float
    inputs: tuple[str, ...] = ()
    params: tuple[tuple[str, float], ...] = ()
    side_by_side: bool = False
    memory: FirstRow = lambda w, p: 0

    def lookback(self, convention: str, window: int, params: tuple[float, ...]) -> int:
        return (self.legacy if convention == "legacy" else self.talib)(window, params)

    @property
    def keys(self) -> tuple[str, ...]:
        window = () if self.window is None else ("window",)
        return ("name", "op", "source", *window, *(name for name, _ in self.params))


def _row(row: int) -> FirstRow:
    return lambda w, p: row


def _after(rows: int) -> FirstRow:
    """Row w + rows."""
    return lambda w, p: w + rows


def _macd(w: int, p: tuple[float, ...]) -> int:
    """Where the signal begins: line and histogram wait for it."""
    return int(max(p[0], p[1]) + p[2]) - 2


_BAND = (("k", 2.0),)
_MACD_KEYS = (("fast", 12), ("slow", 26), ("signal", 9))


def _d_first(rows: int) -> FirstRow:
    """Row w + rows of %K, and the d_period - 1 rows after it that the mean needs too."""
    return lambda w, p: w + rows + int(p[0]) - 1


_HL = ("high", "low")
_HLC = ("high", "low", "close")
_HLCV = (*_HLC, "volume")
_D_PERIOD = (("d_period", 3),)


# fmt: off
OPS = {
    "IDENT": Op(nb.IDENT, None, _row(0), _row(0), 0.3),
    "LOGRET": Op(nb.LOGRET, None, _row(1), _row(1), 5.0),
    "MOMENTUM": Op(nb.MOMENTUM, 5, _after(0), _after(0), 0.3),
    "SMA": Op(nb.SMA, 20, _after(-1), _after(-1), 1.5),
    "EMA": Op(nb.EMA, 20, _row(0), _after(-1), 1.0, side_by_side=True),
    "RSI": Op(nb.RSI, 14, _after(1), _after(0), 2.0, side_by_side=True),
    "ZWIN": Op(nb.ZWIN, 20, _after(0), _after(-1), 3.0),
    "SPREAD_BP": Op(nb.SPREAD_BP, None, _row(0), _row(0), 1.0, inputs=_HL),
    "ROC": Op(nb.ROC, 10, _after(0), _after(0), 1.0),
    "VOLATILITY": Op(nb.VOLATILITY, 20, _after(0), _after(-1), 2.5),
    "BOLLINGER_MIDDLE": Op(nb.BOLLINGER_MIDDLE, 20, _after(0), _after(-1), 1.5, params=_BAND),
    "BOLLINGER_UPPER": Op(nb.BOLLINGER_UPPER, 20, _after(0), _after(-1), 2.5, params=_BAND),
    "BOLLINGER_LOWER": Op(nb.BOLLINGER_LOWER, 20, _after(0), _after(-1), 2.5, params=_BAND),
    "MACD_LINE": Op(nb.MACD_LINE, None, _row(0), _macd, 2.0, params=_MACD_KEYS),
    "MACD_SIGNAL": Op(nb.MACD_SIGNAL, None, _row(0), _macd, 2.0, params=_MACD_KEYS),
    "MACD_HISTOGRAM": Op(nb.MACD_HISTOGRAM, None, _row(0), _macd, 2.0, params=_MACD_KEYS),
    "PARKINSON": Op(nb.PARKINSON, 14, _after(-1), _after(-1), 2.5, inputs=("log_range_squared",)),
    "GARMAN_KLASS": Op(nb.GARMAN_KLASS, 14, _after(-1), _after(-1), 2.5, inputs=("garman_klass",)),
    "PRICE_IMPACT": Op(nb.PRICE_IMPACT, None, _row(1), _row(1), 2.0, inputs=("close", "volume")),
    "ORDER_FLOW": Op(nb.ORDER_FLOW, None, _row(0), _row(0), 2.0, _HLCV),
    "MARKET_DEPTH": Op(nb.MARKET_DEPTH, None, _row(0), _row(0), 8.0, ("high", "low", "volume")),
    "BID_ASK_RATIO": Op(nb.BID_ASK_RATIO, None, _row(0), _row(0), 1.0, _HLC),
    "OBV": Op(nb.OBV, None, _row(0), _row(0), 4.0, ("close", "volume")),
    "VPT": Op(nb.VPT, None, _row(0), _row(0), 4.0, ("close", "volume")),
    "AD_LINE": Op(nb.AD_LINE, None, _row(0), _row(0), 4.0, _HLCV),
    "ATR": Op(nb.ATR, 14, _after(0), _after(0), 3.0, _HLC),
    "ADX": Op(nb.ADX, 14, lambda w, p: 2 * w, lambda w, p: 2 * w - 1, 6.0, _HLC),
    "STOCHASTIC_K": Op(
        nb.STOCHASTIC_K, 14, _after(0), _after(-1), 6.0, _HLC, _D_PERIOD,
        memory=lambda w, p: 2 * (w + 2),
    ),
    "STOCHASTIC_D": Op(
        nb.STOCHASTIC_D, 14, _d_first(0), _d_first(-1), 8.0, _HLC, _D_PERIOD,
        memory=lambda w, p: 2 * (w + 2) + int(p[0]) + 1,
    ),
    "WILLIAMS_R": Op(
        nb.WILLIAMS_R, 14, _after(0), _after(-1), 6.0, _HLC,
        memory=lambda w, p: 2 * (w + 2),
    ),
    "MFI": Op(nb.MFI, 14, _after(0), _after(0), 7.0, _HLCV, memory=lambda w, p: 2 * (w + 1)),
    "CCI": Op(nb.CCI, 20, _after(0), _after(-1), 12.0, _HLC, memory=lambda w, p: w + nb.TILE),
}
# fmt: on

COLUMNS = ("open", "high", "low", "close", "volume")
COMPOSITES = ("hlc", "hl", "ohlc", "ohlcv", "hlcv", "close_volume")
SOURCES = (*COLUMNS, "logret", *COMPOSITES)

# What the kernel reads besides bar columns, and the bar columns it is made of before the pass: the
# logs are taken once for every window over them.
DERIVED = {
    "logret": ("close",),
    "log_range_squared": ("high", "low"),
    "garman_klass": ("open", "high", "low", "close"),
}


def bar_columns(name: str) -> tuple[str, ...]:
    """The bar columns behind one of ``Feature.columns``."""
    return DERIVED.get(name, (name,))
