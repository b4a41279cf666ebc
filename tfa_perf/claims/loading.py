"""Data loading and memory mapping: windows from memory and from a file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.claims.finding import Finding, found, invalid
from tfa_perf.claims.paired import compare
from tfa_perf.claims.workload import Workload
from tfa_perf.data.loader import WindowLoader

__all__ = ["measure_loading", "measure_mapping"]

_T = 48
_EQUAL = "all batches equal, bit by bit"


def measure_loading(work: Workload, wanted: Collection[str]) -> Iterator[Finding]:
    """One pass over all training windows in order, the batches on the device at the end."""
    if "data-loading" not in wanted:
        return
    batch = work.fitting(work.report.train.batch_size)
    windows = work.windows_as_written(_T, batch)
    as_written = DataLoader(windows, batch_size=None)
    valid = np.zeros(len(work.X), np.bool_)
    valid[windows.start : windows.end + 1] = True
    ours = WindowLoader(
        work.X, work.y, window=_T, valid=valid, batch_size=batch, device=work.device
    )
    workload = work.describe(_T, batch, f"{windows.end - windows.start + 1:,} windows")
    variant = f"WindowLoader, {ours.mode}"

    def before() -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in as_written:
            yield x.to(work.device), y.to(work.device)

    for ours_batch, theirs in zip(ours, before(), strict=True):
        if not all(torch.equal(a, b) for a, b in zip(ours_batch, theirs, strict=True)):
            yield invalid("data-loading", variant, workload, "a batch differs")
            return
    result = work.versus(lambda: _drain(before()), lambda: _drain(ours))
    yield found("data-loading", variant, workload, _EQUAL, result)


def _drain(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


def measure_mapping(work: Workload, wanted: Collection[str]) -> Iterator[Finding]:
    """A file of features, read whole or mapped: to the first batch, and through one pass."""
    if "memory-map" not in wanted:
        return
    rows, batch = work.sizes.rows, work.report.train.batch_size
    X = np.resize(work.X, (rows, work.features))
    y = np.resize(work.y, (rows, 1))
    path = work.folder / "table.npy"
    np.save(path, X)
    reads: dict[bool, Callable[[], NDArray[np.float32]]] = {
        False: lambda: np.load(path),
        True: lambda: np.load(path, mmap_mode="r").view(np.ndarray),
    }

    def first(mapped: bool) -> Tensor:
        table = SeqWindows(reads[mapped](), y, _T, _T - 1, rows - 1, batch)
        return next(iter(table))[0]

    def whole(mapped: bool) -> None:
        _drain(SeqWindows(reads[mapped](), y, _T, _T - 1, rows - 1, batch))

    workload = f"{rows:,} x {work.features} float32 ({X.nbytes / 1e6:,.0f} MB), T {_T}, B {batch}"
    try:
        for text, run in (("the first batch", first), ("the end of one pass", whole)):
            variant = f"mapped, not read whole: to {text}"
            if not torch.equal(first(False), first(True)):
                yield invalid("memory-map", variant, workload, "the first batch differs")
                continue
            result = compare(
                lambda run=run: run(False),  # type: ignore[misc]
                {variant: lambda run=run: run(True)},  # type: ignore[misc]
                budget_s=work.sizes.budget_s,
                device=torch.device("cpu"),
            )
            yield found("memory-map", variant, workload, "first batch equal", result[variant])
    finally:
        path.unlink()
