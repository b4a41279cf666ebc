"""The op registry: one row per op that is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tfa_kernels import _bar_nb as bar
from tfa_kernels import _cci_nb as commodity
from tfa_kernels import _extremes_nb as extremes
from tfa_kernels import _macd_nb as macd
from tfa_kernels import _range_nb as ranges
from tfa_kernels import _recursive_nb as recursive
from tfa_kernels import _rolling_lanes_nb as rolled
from tfa_kernels import _rolling_nb as rolling
from tfa_kernels import _typical_nb as typical
from tfa_kernels import _volume_nb as volume
from tfa_kernels._addressed import AddressedKernel

CONVENTIONS = ("legacy", "talib")


FirstRow = Callable[[int, tuple[float, ...]], int]


def _row(row: int) -> FirstRow:
    return lambda w, p: row


def _after(rows: int) -> FirstRow:
    """Row w + rows."""
    return lambda w, p: w + rows


_NOTHING = _row(0)


@dataclass(frozen=True)
class Op:
    """What the spec and the fused pass need to know about an op.

    kernel: its loop. window: default window, None where the op has none. legacy, talib: first row
    with a value, counted from the first row of its source, for a window and the values of params.
    cost: time per row relative to EMA; it shares columns out among threads. inputs: the bar or
    DERIVED columns it reads, none where it reads the feature's source. params: names and defaults
    of further keys, integers where the default is one. history: rows before the newest that it
    reads. memory: floats that a column keeps between tiles. side_by_side: whether the kernel takes
    several columns of one source together. dependence: how a row depends on where its series
    begins: "finite", not beyond the lookback; "decaying", less and less; "unbounded", for ever.
    code_digest: of a user's function, what tells it from another of that name.
    """

    kernel: AddressedKernel
    window: int | None
    legacy: FirstRow
    talib: FirstRow
    cost: float
    inputs: tuple[str, ...] = ()
    params: tuple[tuple[str, float], ...] = ()
    history: FirstRow = _NOTHING
    memory: FirstRow = _NOTHING
    side_by_side: bool = False
    dependence: str = "finite"
    code_digest: tuple[str, ...] = ()

    def lookback(self, convention: str, window: int, params: tuple[float, ...]) -> int:
        return (self.legacy if convention == "legacy" else self.talib)(window, params)

    @property
    def keys(self) -> tuple[str, ...]:
        window = () if self.window is None else ("window",)
        return ("name", "op", "source", *window, *(name for name, _ in self.params))


def _macd(w: int, p: tuple[float, ...]) -> int:
    """Where the signal begins: line and histogram wait for it."""
    return int(max(p[0], p[1]) + p[2]) - 2


def _d_first(rows: int) -> FirstRow:
    """Row w + rows of %K, and the d_period - 1 rows after it that the mean needs too."""
    return lambda w, p: w + rows + int(p[0]) - 1


def _own(kernel: AddressedKernel, cost: float, *inputs: str, first: int = 0, **more: Any) -> Op:
    """An op without a window."""
    return Op(kernel, None, _row(first), _row(first), cost, inputs, **more)


def _rolled(
    kernel: AddressedKernel, window: int, cost: float, *inputs: str, legacy: int = 0, **more: Any
) -> Op:
    """An op of running sums over w rows: to leave a row behind, it reads it once more."""
    return Op(kernel, window, _after(legacy), _after(-1), cost, inputs, history=_after(0), **more)


def _of_macd(kernel: AddressedKernel) -> Op:
    return Op(kernel, None, _row(0), _macd, 2.0, params=_MACD, dependence=_DECAYS)


_HL = ("high", "low")
_HLC = (*_HL, "close")
_HLCV = (*_HLC, "volume")
_CV = ("close", "volume")
_BAND = (("k", 2.0),)
_MACD = (("fast", 12), ("slow", 26), ("signal", 9))
_D_PERIOD = (("d_period", 3),)
_BACK = _row(1)
_DECAYS, _STAYS = "decaying", "unbounded"

# fmt: off
OPS = {
    "IDENT": _own(bar.ident, 0.7),
    "LOGRET": _own(bar.logret, 5.0, first=1),
    "MOMENTUM": Op(bar.momentum, 5, _after(0), _after(0), 1.0, history=_after(0)),
    "SMA": _rolled(rolled.sma, 20, 1.4, legacy=-1, side_by_side=True),
    "EMA": Op(recursive.ema, 20, _row(0), _after(-1), 1.0, side_by_side=True, dependence=_DECAYS),
    "RSI": Op(
        recursive.rsi, 14, _after(1), _after(0), 1.2, history=_BACK, side_by_side=True,
        dependence=_DECAYS,
    ),
    "ZWIN": _rolled(rolled.zwin, 20, 2.5, side_by_side=True),
    "SPREAD_BP": _own(bar.spread_bp, 1.1, *_HL),
    "ROC": Op(bar.roc, 10, _after(0), _after(0), 1.7, history=_after(0)),
    "VOLATILITY": _rolled(rolling.volatility, 20, 3.2),
    "BOLLINGER_MIDDLE": _rolled(
        rolled.sma, 20, 1.4, params=_BAND, side_by_side=True,
    ),
    "BOLLINGER_UPPER": _rolled(rolling.bollinger_upper, 20, 4.0, params=_BAND),
    "BOLLINGER_LOWER": _rolled(rolling.bollinger_lower, 20, 4.0, params=_BAND),
    "MACD_LINE": _of_macd(macd.macd_line),
    "MACD_SIGNAL": _of_macd(macd.macd_signal),
    "MACD_HISTOGRAM": _of_macd(macd.macd_histogram),
    "PARKINSON": _rolled(rolling.parkinson, 14, 3.2, "log_range_squared", legacy=-1),
    "GARMAN_KLASS": _rolled(rolling.garman_klass, 14, 3.9, "garman_klass", legacy=-1),
    "PRICE_IMPACT": _own(bar.price_impact, 1.9, *_CV, first=1, history=_BACK),
    "ORDER_FLOW": _own(bar.order_flow, 1.3, *_HLCV),
    "MARKET_DEPTH": _own(bar.market_depth, 8.0, *_HL, "volume"),
    "BID_ASK_RATIO": _own(bar.bid_ask_ratio, 1.4, *_HLC),
    "OBV": _own(volume.obv, 2.7, *_CV, history=_BACK, dependence=_STAYS),
    "VPT": _own(volume.vpt, 3.0, *_CV, history=_BACK, dependence=_STAYS),
    "AD_LINE": _own(volume.ad_line, 2.2, *_HLCV, dependence=_STAYS),
    "ATR": Op(ranges.atr, 14, _after(0), _after(0), 2.4, _HLC, history=_BACK, dependence=_DECAYS),
    "ADX": Op(
        ranges.adx, 14, lambda w, p: 2 * w, lambda w, p: 2 * w - 1, 4.3, _HLC, history=_BACK,
        dependence=_DECAYS,
    ),
    "STOCHASTIC_K": Op(
        extremes.stochastic_k, 14, _after(0), _after(-1), 3.9, _HLC, _D_PERIOD,
        memory=lambda w, p: 2 * (w + 2),
    ),
    "STOCHASTIC_D": Op(
        extremes.stochastic_d, 14, _d_first(0), _d_first(-1), 8.5, _HLC, _D_PERIOD,
        memory=lambda w, p: 2 * (w + 2) + int(p[0]) + 1,
    ),
    "WILLIAMS_R": Op(
        extremes.williams_r, 14, _after(0), _after(-1), 5.9, _HLC,
        memory=lambda w, p: 2 * (w + 2),
    ),
    "MFI": Op(typical.mfi, 14, _after(0), _after(0), 7.4, _HLCV, memory=lambda w, p: 2 * (w + 1)),
    "CCI": Op(
        commodity.cci, 20, _after(0), _after(-1), 6.0, _HLC,
        memory=lambda w, p: 4 * w + commodity.MEMORY,
    ),
}
# fmt: on

COLUMNS = ("open", "high", "low", "close", "volume")
COMPOSITES = ("hlc", "hl", "ohlc", "ohlcv", "hlcv", "close_volume")
SOURCES = (*COLUMNS, "logret", *COMPOSITES)

# What ops read besides bar columns, and the bar columns it is made of as they are loaded: the logs
# are taken once for every window over them.
DERIVED = {
    "logret": ("close",),
    "log_range_squared": ("high", "low"),
    "garman_klass": ("open", "high", "low", "close"),
}


def bar_columns(name: str) -> tuple[str, ...]:
    """The bar columns behind one of ``Feature.columns``."""
    return DERIVED.get(name, (name,))
