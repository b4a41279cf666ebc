"""Sweeps of the data path: features, windows and the cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from tfa_kernels import FeatureSpec, build_features, gather_windows, load_spec
from tfa_perf.baseline.cache import load_cache, save_cache
from tfa_perf.baseline.features import build_features as build_features_as_written
from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.claims.workload import OutputsDiffer
from tfa_perf.config import load_config
from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.store import create_store, open_store
from tfa_perf.data.synthetic import synthetic_bars
from tfa_perf.scaling.sizes import Sizes
from tfa_perf.scaling.sweep import Call, Sweep

__all__ = ["data_sweeps", "table"]

_T, _F, _B = 48, 55, 1024
_OPS = ("EMA", "RSI", "ZWIN", "SMA")
_WINDOWS = (5, 10, 20, 30, 60)


def data_sweeps(sizes: Sizes, device: torch.device, folder: Path) -> Iterator[Sweep]:
    """Features, gather, loader and cache; ``folder`` takes the cache's files."""
    yield _features_of_rows(sizes)
    yield _features_of_columns(sizes)
    yield from _gathers(sizes)
    yield _loader(sizes, device)
    yield from _cache(sizes, folder)


def table(rows: int, features: int) -> NDArray[np.float32]:
    """Normal float32 [rows, features]; beyond a hundred thousand rows they come round again."""
    some = np.random.default_rng(0).standard_normal((min(rows, 100_000), features), np.float32)
    return some if rows <= len(some) else np.resize(some, (rows, features))


def _features_of_rows(sizes: Sizes) -> Sweep:
    spec = load_spec(load_config("report").data.features)

    def sides(rows: int) -> dict[str, Call]:
        return _builders(rows, spec)

    # Bars float64, and a float32 matrix of either side.
    return Sweep(
        "features-N",
        "feature building",
        "N",
        sizes.rows,
        f"F {len(spec.features)}, one series",
        sides,
        _same_features,
        lambda rows: rows * (30 * 8 + 2 * len(spec.features) * 4),
    )


def _features_of_columns(sizes: Sizes) -> Sweep:
    rows = sizes.table

    def sides(columns: int) -> dict[str, Call]:
        features = [
            {
                "name": f"f{c}",
                "op": _OPS[c % len(_OPS)],
                "window": _WINDOWS[c // len(_OPS) % len(_WINDOWS)],
            }
            for c in range(columns)
        ]
        tree = {"schema_version": "2.0", "convention": "legacy", "features": features}
        return _builders(rows, load_spec(tree))

    fixed = f"N {rows:,}, {', '.join(_OPS)} in turn with windows of 5 to 60"
    work = "feature building"
    return Sweep("features-F", work, "F", sizes.features, fixed, sides, _same_features)


def _builders(rows: int, spec: FeatureSpec) -> dict[str, Call]:
    bars = synthetic_bars(rows)
    return {
        "before": lambda: build_features_as_written(bars, spec),
        "after": lambda: build_features(bars, spec).values,
    }


def _same_features(calls: Mapping[str, Call]) -> None:
    before, after = (np.asarray(calls[side]()) for side in ("before", "after"))
    # The report's ZWIN takes E[x^2] - E[x]^2, which cancels.
    if not (np.abs(after - before) <= 1e-3 * np.abs(before).max(axis=0)).all():
        raise OutputsDiffer("features differ by more than 0.001 of the largest")


def _gathers(sizes: Sizes) -> Iterator[Sweep]:
    """One batch of windows at random places; the report's copy, window by window, beside ours."""
    for axis, values in (
        ("N", sizes.rows),
        ("F", sizes.features),
        ("T", sizes.windows),
        ("B", sizes.batches),
    ):
        shape = {"N": sizes.table, "F": _F, "T": _T, "B": _B}

        def sides(size: int, axis: str = axis, shape: dict[str, int] = shape) -> dict[str, Call]:
            now = {**shape, axis: size}
            return _gather(table(now["N"], now["F"]), now["B"], now["T"])

        yield Sweep(
            f"gather-{axis}",
            "gather of a batch",
            axis,
            values,
            ", ".join(f"{name} {size:,}" for name, size in shape.items() if name != axis),
            sides,
            _same_arrays,
            lambda size, axis=axis, shape=shape: _gather_bytes(  # type: ignore[misc]
                **{**shape, axis: size}
            ),
        )


def _gather_bytes(N: int, F: int, T: int, B: int) -> int:
    return (N * F + 2 * B * T * F) * 4


def _gather(X: NDArray[np.float32], batch: int, window: int) -> dict[str, Call]:
    starts = np.random.default_rng(1).integers(0, len(X) - window + 1, batch)
    shape = (batch, window, X.shape[1])
    buffers = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def before() -> NDArray[np.float32]:
        for row, start in enumerate(starts):
            buffers[0][row] = X[start : start + window]
        return buffers[0]

    return {"before": before, "after": lambda: gather_windows(X, starts, window, buffers[1])}


def _same_arrays(calls: Mapping[str, Call]) -> None:
    before, after = (np.asarray(calls[side]()) for side in ("before", "after"))
    if not np.array_equal(before, after):
        raise OutputsDiffer("the two sides made different arrays")


def _loader(sizes: Sizes, device: torch.device) -> Sweep:
    """One pass over all windows in order, the batches on the device at the end."""

    def sides(rows: int) -> dict[str, Call]:
        X, y = table(rows, _F), np.zeros(rows, np.float32)
        windows = SeqWindows(X, y[:, None], _T, _T - 1, rows - 1, _B)
        ours = WindowLoader(X, y, window=_T, batch_size=_B, device=device)

        def before() -> tuple[int, float]:
            batches = ((x.to(device), y.to(device)) for x, y in DataLoader(windows, None))
            return _windows_and_last(batches)

        return {"before": before, "after": lambda: _windows_and_last(ours)}

    def check(calls: Mapping[str, Call]) -> None:
        before, after = (calls[side]() for side in ("before", "after"))
        if before != after:
            raise OutputsDiffer(f"windows and last batch are {before} and {after}")

    fixed = f"T {_T}, F {_F}, B {_B}, in order, {device.type}"
    return Sweep(
        "loader-N",
        "one pass of the loader",
        "N",
        sizes.rows,
        fixed,
        sides,
        check,
        lambda rows: rows * _F * 4 * 2,
    )


def _windows_and_last(batches: Any) -> tuple[int, float]:
    """How many windows there were, and one value of the last."""
    count, x = 0, torch.empty(0)
    for x, _ in batches:
        count += len(x)
    return count, x[-1, -1, -1].item()


def _cache(sizes: Sizes, folder: Path) -> Iterator[Sweep]:
    X, y = np.empty((0, _F), np.float32), np.empty(0, np.float32)

    def save_sides(rows: int) -> dict[str, Call]:
        nonlocal X, y
        X, y = table(rows, _F), np.zeros(rows, np.float32)
        return {
            "before": lambda: save_cache(folder, X, y),
            "after": lambda: _save_store(folder / "store", X, y),
        }

    def check_saved(calls: Mapping[str, Call]) -> None:
        for call in calls.values():
            call()
        if not np.array_equal(load_cache(folder)[0], open_store(folder / "store").features):
            raise OutputsDiffer("the two caches hold different tables")

    def load_sides(rows: int) -> dict[str, Call]:
        for call in save_sides(rows).values():
            call()
        # Opening a memory map reads nothing, so both sides are summed over every value.
        return {
            "before": lambda: load_cache(folder)[0].sum(),
            "after": lambda: open_store(folder / "store").features.sum(),
        }

    fixed = f"F {_F}; np.save beside a store that is synced to disk"
    # The table, the page cache of either file, and what is read back.
    needs = lambda rows: rows * _F * 4 * 4  # noqa: E731
    yield Sweep(
        "cache-save-N", "cache save", "N", sizes.rows, fixed, save_sides, check_saved, needs
    )
    fixed = f"F {_F}, read to the last value, files in the page cache"
    yield Sweep(
        "cache-load-N", "cache load", "N", sizes.rows, fixed, load_sides, _same_arrays, needs
    )


def _save_store(path: Path, X: NDArray[np.float32], y: NDArray[np.float32]) -> None:
    with create_store(path, rows=len(X), features=X.shape[1]) as writer:
        writer.features[...] = X
        writer.labels[...] = y
        names = [f"f{i}" for i in range(X.shape[1])]
        writer.commit(names=names, spec_hash="scaling", convention="legacy")
