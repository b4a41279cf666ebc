"""How much work a run of the benchmarks does: ``--size small|default|large``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SIZES", "Size", "choose", "current"]


@dataclass(frozen=True)
class Size:
    """Rows, bars and batches that every benchmark takes its own from.

    Attributes
    ----------
    name : what ``--size`` calls it.
    bars : bars that features are built from.
    rows : rows of the table that windows are cut from.
    cached : rows of the table that is written to disk and read back.
    batch : windows a batch of the loader.
    step : windows an optimizer step of the model on a CPU.
    steps : optimizer steps an epoch.
    processes : fresh processes of a side that memory is measured in.
    """

    name: str
    bars: int
    rows: int
    cached: int
    batch: int
    step: int
    steps: int
    processes: int


SIZES = {
    size.name: size
    for size in (
        Size("small", 50_000, 60_000, 25_000, 256, 128, 2, 1),
        Size("default", 200_000, 300_000, 100_000, 1024, 512, 3, 2),
        Size("large", 1_000_000, 1_000_000, 1_000_000, 1024, 1024, 6, 3),
    )
}
_chosen = "default"


def choose(name: str) -> None:
    """Take the size of that name for this process, before test modules are imported."""
    global _chosen
    _chosen = SIZES[name].name


def current() -> Size:
    return SIZES[_chosen]
