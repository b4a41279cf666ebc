"""Rolling and exponential features of a polars frame."""

import polars as pl

from examples.data import columns
from examples.spec import WINDOWS


def features(bars):
    close, made = pl.col("close"), []
    for w in WINDOWS:
        made.append(close.rolling_mean(w).alias(f"sma_{w}"))
        made.append(close.ewm_mean(span=w, adjust=False).alias(f"ema_{w}"))
        made.append(close.rolling_std(w, ddof=0).alias(f"volatility_{w}"))
    return bars.select(made).cast(pl.Float32).to_numpy(order="c")


if __name__ == "__main__":
    print(features(pl.DataFrame(columns()))[-1])
