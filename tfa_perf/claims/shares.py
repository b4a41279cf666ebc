"""The four shares, timed part by part and by ablation."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator

import numpy as np

from tfa_perf.claims.allocator import keep_memory, settle_memory
from tfa_perf.claims.as_written import COMPUTE, DATA, MEMORY, OTHER, PARTS, written_step
from tfa_perf.claims.finding import Finding, found
from tfa_perf.claims.measure import median_interval, paired_ratio
from tfa_perf.claims.paired import compare
from tfa_perf.claims.verdict import Estimate
from tfa_perf.claims.workload import Workload

__all__ = ["measure_shares"]

_SAME = "same step, with and without the part"


def measure_shares(work: Workload, wanted: Collection[str]) -> Iterator[Finding]:
    """Both kinds of share for each wanted part."""
    wanted = [part for part in PARTS if part in wanted]
    yield from _timed(work, wanted)
    gc.collect()
    yield from _ablations(work, [part for part in wanted if part != MEMORY])
    if MEMORY in wanted:
        yield from _without_memory_management(work)


def _timed(work: Workload, wanted: Collection[str]) -> Iterator[Finding]:
    """Shares of each step's seconds; A/A is even steps beside odd ones."""
    step = written_step(work, batch=work.sizes.report_batch)
    step.timed()
    first = sum(step.timed().values())
    count = int(min(20, max(12, work.sizes.budget_s / first)))
    laps = [step.timed() for _ in range(count - count % 2)]
    step.close()
    walls = [sum(lap.values()) for lap in laps]
    turned = [pair[:: 1 if k % 2 == 0 else -1] for k, pair in enumerate(_pairs(walls))]
    again = paired_ratio([a for a, _ in turned], [b for _, b in turned])
    for part in wanted:
        shares = np.sort([lap[part] / wall for lap, wall in zip(laps, walls, strict=True)])
        low, high, coverage = median_interval(len(shares))
        middle = float(np.median(shares))
        estimate = Estimate(middle, shares[low].item(), shares[high].item(), coverage, len(shares))
        workload = work.describe(48, work.sizes.report_batch)
        yield found(part, "timed", workload, "one side only", (estimate, again))


def _pairs(values: list[float]) -> list[tuple[float, float]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _ablations(work: Workload, wanted: Collection[str]) -> Iterator[Finding]:
    batch = work.sizes.report_batch
    base = written_step(work, batch=batch)
    for part in wanted:
        ablated = written_step(work, batch=batch, without=part)
        result = work.versus(base, ablated)
        ablated.close()
        yield found(part, _ABLATION[part], work.describe(48, batch), _SAME, result)
        del ablated
        gc.collect()
    base.close()


_ABLATION = {
    DATA: "ablation: one stored batch, fetched never again",
    COMPUTE: "ablation: stored loss and gradients",
    OTHER: "ablation: no update, loss read or print",
}


def _without_memory_management(work: Workload) -> Iterator[Finding]:
    batch = work.sizes.report_batch
    base = written_step(work, batch=batch)
    ablated = written_step(work, batch=batch, without=MEMORY)
    if work.device.type == "cuda":
        variant = "ablation: batch on the device already, gradients kept"
        result = work.versus(base, ablated)
    elif settle_memory():
        variant = "ablation: allocator keeps its memory, gradients kept"

        # A step in between lets the heap take the shape that the setting gives it.
        def give_back() -> None:
            settle_memory()
            base()

        def keep() -> None:
            keep_memory()
            ablated()

        try:
            result = compare(
                base,
                {"ablated": ablated},
                budget_s=work.sizes.budget_s,
                device=work.device,
                settle={"": give_back, "ablated": keep},
            )["ablated"]
        finally:
            settle_memory()
    else:
        variant = "ablation: gradients kept"
        result = work.versus(base, ablated)
    for step in (base, ablated):
        step.close()
    note = "" if work.device.type == "cuda" else "on a CPU nothing is copied to a device"
    yield found(MEMORY, variant, work.describe(48, batch), _SAME, result, note=note)
