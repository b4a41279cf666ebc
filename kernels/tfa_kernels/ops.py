"""The op registry: one row per op that is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tfa_kernels import _features_nb as nb

CONVENTIONS = ("legacy", "talib")


@dataclass(frozen=True)
class Op:
    """What the spec and the kernel need to know about an op.

    code: its number in the kernel. window: default window, None where the op has none.
    legacy, talib: first row with a value, counted from the first row of its source, for a window.
    cost: time per row relative to EMA; it shares columns out among threads. side_by_side: whether
    the kernel takes several columns of one source together.
    """

    code: int
    window: int | None
    legacy: Callable[[int], int]
    talib: Callable[[int], int]
    cost: float
    side_by_side: bool = False

    def lookback(self, convention: str, window: int) -> int:
        return self.legacy(window) if convention == "legacy" else self.talib(window)

    @property
    def keys(self) -> tuple[str, ...]:
        base = ("name", "op", "source")
        return base if self.window is None else (*base, "window")


OPS = {
    "IDENT": Op(nb.IDENT, None, lambda w: 0, lambda w: 0, 0.3),
    "LOGRET": Op(nb.LOGRET, None, lambda w: 1, lambda w: 1, 3.0),
    "SMA": Op(nb.SMA, 20, lambda w: w - 1, lambda w: w - 1, 1.5),
    "EMA": Op(nb.EMA, 20, lambda w: 0, lambda w: w - 1, 1.0, True),
    "RSI": Op(nb.RSI, 14, lambda w: w + 1, lambda w: w, 1.5, True),
    "ZWIN": Op(nb.ZWIN, 20, lambda w: w, lambda w: w - 1, 2.0),
}

# Ops that specs in use name and that have no kernel: the error says so instead of "unknown".
# fmt: off
NOT_BUILT = frozenset((
    "MOMENTUM", "ROC", "VOLATILITY", "PARKINSON", "GARMAN_KLASS", "ATR", "BOLLINGER_MIDDLE",
    "BOLLINGER_UPPER", "BOLLINGER_LOWER", "MACD_LINE", "MACD_SIGNAL", "MACD_HISTOGRAM",
    "STOCHASTIC_K", "STOCHASTIC_D", "WILLIAMS_R", "CCI", "ADX", "OBV", "VPT", "AD_LINE", "MFI",
    "SPREAD_BP", "PRICE_IMPACT", "ORDER_FLOW", "MARKET_DEPTH", "BID_ASK_RATIO",
))
# fmt: on

COLUMNS = ("open", "high", "low", "close", "volume")
COMPOSITES = ("hlc", "hl", "ohlc", "ohlcv", "hlcv", "close_volume")
SOURCES = (*COLUMNS, "logret", *COMPOSITES)
