"""Features of thousands of symbols, built by many processes into one store.

A store of a universe is a feature store like any other, one table whose series are the symbols, so
that `open_store` and all that reads a store work on it unchanged: windows inside series, shuffles,
exact resume, tables on a device. A shard is a range of its rows. A first pass counts the rows of
each file (of Parquet, in its footer), so that each worker knows where its rows go and writes them
into the same files as the others. The alternative, a store for each partition, would have every
batch of a shuffled pass gathered from as many files as it has windows.

What that costs: where a file gains rows, those of the files after it move. The rows of unchanged
files are then copied from the earlier build, checksums compared, not built again.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfa_perf.universe.build import Partition, Universe, build_universe
    from tfa_perf.universe.processes import ClusterError, UsageError

__all__ = ["ClusterError", "Partition", "Universe", "UsageError", "build_universe"]


def __getattr__(name: str) -> Any:
    # Every command imports this package for its arguments alone.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "processes" if name.endswith("Error") else "build"
    return getattr(import_module(f"{__name__}.{module}"), name)
