"""What each op computes, in a line, and where the two conventions part.

``x`` is the source, O, H, L, C, V the bars' columns, ``t`` a row from 0, ``w`` the window;
``mean_w`` and ``std_w`` are over rows t-w+1..t, std with divisor w. The formula is that of "talib",
TA-Lib's where it has the op; "legacy" reads inputs rounded to float32.
"""

from __future__ import annotations

__all__ = ["FORMULAS"]

_BANDS = "the std is of rows t-w..t-1, and the first value is at w"
_EMA_SEED = "averages begin with e_0 = x_0, so values from row 0"

FORMULAS: dict[str, tuple[str, str]] = {
    "IDENT": ("x_t", ""),
    "LOGRET": ("ln max(x_t, 1e-12) - ln max(x_(t-1), 1e-12)", "logarithms in float32"),
    "MOMENTUM": ("x_t - x_(t-w)", ""),
    "ROC": (
        "100 (x_t - x_(t-w)) / x_(t-w); 0 where the divisor is 0",
        "the divisor is at least 1e-12",
    ),
    "SMA": ("mean_w(x)", ""),
    "EMA": (
        "e_t = k x_t + (1 - k) e_(t-1), k = 2 / (w + 1), from the mean of the first w",
        "begins with e_0 = x_0",
    ),
    "RSI": (
        "100 G / (G + L) of Wilder's means of gains and losses, from those of rows 1..w at w; "
        "0 where both are 0",
        "first value at w + 1; 0 where there was no loss",
    ),
    "ZWIN": (
        "(x_t - mean_w(x)) / std_w(x); 0 where the std is at most 1e-8",
        "first value at w",
    ),
    "VOLATILITY": ("std_w(x)", _BANDS),
    "BOLLINGER_MIDDLE": ("mean_w(x)", "first value at w"),
    "BOLLINGER_UPPER": ("mean_w(x) + k std_w(x)", _BANDS),
    "BOLLINGER_LOWER": ("mean_w(x) - k std_w(x)", _BANDS),
    "MACD_LINE": (
        "EMA_fast(x) - EMA_slow(x), both seeded to end at row slow - 1",
        _EMA_SEED,
    ),
    "MACD_SIGNAL": ("EMA_signal of MACD_LINE", _EMA_SEED),
    "MACD_HISTOGRAM": ("MACD_LINE - MACD_SIGNAL", _EMA_SEED),
    "PARKINSON": ("sqrt(mean_w(ln(H / L)^2) / (4 ln 2))", ""),
    "GARMAN_KLASS": (
        "sqrt(max(0, mean_w(g))), g_t = ln(H / L)^2 / 2 - (2 ln 2 - 1) ln(C / O)^2",
        "g_0 = 0",
    ),
    "ATR": (
        "Wilder's mean of TR_t = max(H - L, |H - C_(t-1)|, |L - C_(t-1)|), from that of rows 1..w",
        "",
    ),
    "ADX": (
        "Wilder's mean of DX = 100 |P - M| / (P + M), P and M 100 S_dm / S_tr of the directional "
        "moves; S begins with the sum of rows 1..w-1, S_t = S - S / w + v, and the mean with DX of "
        "rows w..2w-1",
        "DX itself, not its mean, from row 2w; sums begin with rows 1..w",
    ),
    "CCI": (
        "(p - mean_w(p)) / (0.015 d), p = (H + L + C) / 3, d the mean of |p_j - mean_w(p)|; "
        "0 where d is 0",
        "p is summed in float32, 0 where d is at most 1e-8, and the first value is at w",
    ),
    "STOCHASTIC_K": (
        "100 (C - low) / (high - low), the lowest L and highest H of w rows; 0 where equal",
        "of w + 1 rows, from row w",
    ),
    "STOCHASTIC_D": ("mean of d_period rows of STOCHASTIC_K", "of the K of w + 1 rows"),
    "WILLIAMS_R": (
        "-100 (high - C) / (high - low), the lowest L and highest H of w rows",
        "of w + 1 rows, from row w",
    ),
    "MFI": (
        "100 pos / (pos + neg): p V of w rows, p = (H + L + C) / 3, by the sign of p_j - p_(j-1); "
        "0 where both are 0",
        "p is summed in float32; 0 where neg is at most 1e-8",
    ),
    "OBV": ("V_0, then + V where C rose, - V where it fell", "begins with 0"),
    "VPT": ("0, then + V (C_t - C_(t-1)) / C_(t-1)", ""),
    "AD_LINE": (
        "running sum of V ((C - L) - (H - C)) / (H - L), 0 where H <= L",
        "begins with 0, and adds nothing where H - L is at most 1e-8",
    ),
    "SPREAD_BP": ("1e4 (H - L) / ((H + L) / 2); 0 where the middle is at most 1e-8", ""),
    "PRICE_IMPACT": (
        "1e6 |C_t - C_(t-1)| / C_(t-1) / sqrt(V); 0 where C_(t-1) or V is not positive",
        "",
    ),
    "ORDER_FLOW": ("V ((C - L) - (H - C)) / (H - L); 0 where H - L is at most 1e-8", ""),
    "MARKET_DEPTH": ("(H - L) / ln(V + 1); 0 where V or H - L is at most 1e-8", ""),
    "BID_ASK_RATIO": (
        "p / (1 - p + 1e-8), p = (C - L) / (H - L); 0 where H - L is at most 1e-8",
        "in float32",
    ),
}
