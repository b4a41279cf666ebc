"""Rolling and exponential features of a polars frame."""

import polars as pl

from examples.data import columns
from examples.spec import SPEC
from tfa_kernels import build_features


def features(bars):
    return build_features(bars, SPEC).values


if __name__ == "__main__":
    print(features(pl.DataFrame(columns()))[-1])
