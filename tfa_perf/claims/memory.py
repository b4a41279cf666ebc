"""Peak memory of training and of the cache, each run in a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tfa_kernels import build_features, load_spec
from tfa_perf.baseline.cache import load_cache, save_cache
from tfa_perf.baseline.features import build_features as build_features_as_written
from tfa_perf.baseline.loop import train_steps as train_steps_as_written
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.claims.finding import Finding, found
from tfa_perf.claims.fresh import current_bytes, in_fresh_processes, peak_bytes
from tfa_perf.claims.measure import paired_ratio
from tfa_perf.claims.paired import Comparison
from tfa_perf.claims.verdict import INVALID
from tfa_perf.claims.workload import Sizes, Workload
from tfa_perf.config import load_config
from tfa_perf.data.bars import Bars
from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.store import create_store, open_store
from tfa_perf.data.synthetic import synthetic_bars
from tfa_perf.train.loop import train_steps
from tfa_perf.train.model import WindowEncoder

__all__ = ["cache_peak", "measure_memory", "training_peak"]

_ROUNDS = 6
_T = 48
_STEPS = 2
# More than one process takes of a device, its context included.
_DEVICE_BYTES = 8 << 30
_BEFORE, _AFTER = "before", "after"


def measure_memory(work: Workload, wanted: Collection[str]) -> Iterator[Finding]:
    """Bytes over those in use after imports: training at the report's batch, and the cache."""
    if "memory" not in wanted:
        return
    rows = work.sizes.rows
    for task, variant, workload, compared in (
        (
            "training-memory",
            f"{_STEPS} steps of training, the report's model, our step",
            work.describe(_T, work.sizes.report_batch),
            "mean losses equal within 1e-3",
        ),
        (
            "cache-memory",
            "features built, cached and read through: straight into a memory-mapped store",
            f"{rows:,} synthetic bars x {work.features} float32",
            "sums of the features equal within 1e-3",
        ),
    ):
        arguments = [side for _ in range(_ROUNDS) for side in (_BEFORE, _BEFORE, _AFTER)]
        results = in_fresh_processes(task, work.folder, arguments, at_once=_at_once(work.device))
        again, before, after = ([max(1.0, r["bytes"]) for r in results[k::3]] for k in range(3))
        outputs = [r["output"] for r in results]
        scale = max(abs(o) for o in outputs) or 1.0
        differ = max(outputs) - min(outputs) > 1e-3 * scale
        comparison = Comparison(
            paired_ratio(before, after),
            paired_ratio(again, before),
            float(np.median(before)),
            float(np.median(after)),
        )
        yield _judged(variant, workload, compared, comparison, differ)


def _at_once(device: torch.device) -> int:
    limit = min(os.cpu_count() or 1, 4)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        limit = min(limit, free // _DEVICE_BYTES)
    return max(1, limit)


def _judged(
    variant: str, workload: str, compared: str, comparison: Comparison, differ: bool
) -> Finding:
    finding = replace(found("memory", variant, workload, compared, comparison), unit="bytes")
    if differ:
        return replace(finding, verdict=INVALID, note="outputs of the two sides differ")
    return finding


def training_peak(folder: Path, side: str) -> dict[str, float]:
    """Steps of one side; bytes at the peak over those before, and the mean loss."""
    work = Workload.load(folder)
    batch = work.fitting(work.sizes.report_batch)
    count = len(work.train_ends) // batch
    steps = min(_STEPS, count)
    windows = work.windows_as_written(_T, batch, most=steps * batch)
    train = work.report.train.model_copy(update={"batch_size": batch, "graph": False})
    device = work.device
    baseline = current_bytes()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    torch.manual_seed(train.seed)
    start = TFATransformer(work.features, work.report.model).state_dict()
    if side == _BEFORE:
        model: torch.nn.Module = TFATransformer(work.features, work.report.model).to(device)
        model.load_state_dict(start)
        with open(os.devnull, "w", encoding="utf-8") as log, redirect_stdout(log):
            as_written = train_steps_as_written(model, windows, train, device)
            loss = list(islice(as_written, steps))[-1]
    else:
        model = WindowEncoder(work.features, work.report.model).to(device)
        model.load_state_dict(start)
        valid = np.zeros(len(work.X), np.bool_)
        valid[windows.start : windows.end + 1] = True
        loader = WindowLoader(
            work.X, work.y, window=_T, valid=valid, batch_size=batch, device=device
        )
        ours = islice(train_steps(model, loader, train, device), steps)
        loss = sum(step.loss.item() for step in ours) / steps
    if device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(device), "output": loss}
    return {"bytes": peak_bytes() - baseline, "output": loss}


def cache_peak(folder: Path, side: str) -> dict[str, float]:
    """Build, cache, read; bytes at the peak over those before, and the sum of the features."""
    about = json.loads((folder / "workload.json").read_text(encoding="utf-8"))
    sizes = Sizes.of(torch.device(about["device"]), about["quick"])
    spec = load_config("report").data.features
    bars = synthetic_bars(sizes.rows)
    run: Callable[[Bars, str, Path], float] = {_BEFORE: _cache_as_written, _AFTER: _store}[side]
    own = folder / f"cache-{os.getpid()}"
    own.mkdir()
    # The kernels are compiled, and their memory taken, before it counts.
    run(bars.slice(0, 1000), spec, own)
    baseline = current_bytes()
    total = run(bars, spec, own)
    peak = peak_bytes()
    for path in sorted(own.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    own.rmdir()
    return {"bytes": peak - baseline, "output": total}


def _cache_as_written(bars: Bars, spec: str, folder: Path) -> float:
    X = build_features_as_written(bars, spec)
    y = np.zeros((len(bars), 1), np.float32)
    save_cache(folder, X, y)
    read, _ = load_cache(folder)
    return _sum(read)


def _store(bars: Bars, spec: str, folder: Path) -> float:
    loaded = load_spec(spec)
    with create_store(folder / "store", rows=len(bars), features=len(loaded.features)) as writer:
        built = build_features(bars, loaded, out=writer.features)
        writer.labels[...] = 0
        writer.ts[...] = bars.ts
        writer.commit(names=built.names, spec_hash=built.spec_hash, convention=built.convention)
    return _sum(open_store(folder / "store").features)


def _sum(X: Any) -> float:
    return float(
        sum(np.abs(X[k : k + 10_000]).sum(dtype=np.float64) for k in range(0, len(X), 10_000))
    )
