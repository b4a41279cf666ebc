"""Peak memory of one side of one piece of work, in a process that has done nothing else.

    python -m benchmarks.memory_cases CASE before|after SIZE FOLDER

prints JSON: MB at the peak and MB of private memory when the work is done, both above what the
process held before it, inputs and compiled kernels included. What the work made is left in FOLDER,
to be compared with what the other side made.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.sizes import SIZES, Size
from tfa_kernels import build_features, load_spec
from tfa_perf.baseline.cache import load_cache, save_cache
from tfa_perf.baseline.features import build_features as build_features_as_written
from tfa_perf.config import bundled_configs
from tfa_perf.data.bars import load_bars
from tfa_perf.data.store import create_store, open_store

__all__ = ["CASES", "FEATURES", "save_store"]

FEATURES = 55
Work = Callable[[], Any]


def save_store(path: Path, X: NDArray[np.float32], y: NDArray[np.float32]) -> None:
    with create_store(path, rows=len(X), features=FEATURES) as writer:
        writer.features[...] = X
        writer.labels[...] = y
        names = [f"f{i}" for i in range(FEATURES)]
        writer.commit(names=names, spec_hash="benchmark", convention="legacy")


def _features(size: Size, folder: Path, side: str) -> tuple[Work, Work]:
    spec = load_spec(bundled_configs() / "features" / "tfa55.json")
    bars = load_bars(f"synthetic:{size.bars}")
    few = load_bars("synthetic:1000")
    if side == "before":
        build_features_as_written(few, spec)
        return lambda: build_features_as_written(bars, spec), lambda made: made
    build_features(few, spec)
    return lambda: build_features(bars, spec).values, lambda made: made


def _features_to_cache(size: Size, folder: Path, side: str) -> tuple[Work, Work]:
    spec = load_spec(bundled_configs() / "features" / "tfa55.json")
    bars, few = load_bars(f"synthetic:{size.bars}"), load_bars("synthetic:1000")
    y = np.zeros(size.bars, np.float32)

    def before() -> None:
        save_cache(folder, build_features_as_written(bars, spec), y)

    def after() -> None:
        with create_store(folder, rows=size.bars, features=FEATURES) as writer:
            build_features(bars, spec, out=writer.features)
            writer.labels[...] = y
            names = [feature.name for feature in spec.features]
            writer.commit(names=names, spec_hash="benchmark", convention="legacy")

    if side == "before":
        build_features_as_written(few, spec)
        return before, lambda _: load_cache(folder)[0]
    build_features(few, spec)
    return after, lambda _: open_store(folder).features


def _table(size: Size) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((size.cached, FEATURES), dtype=np.float32)
    return X, (rng.random(size.cached) > 0.5).astype(np.float32)


def _save(size: Size, folder: Path, side: str) -> tuple[Work, Work]:
    X, y = _table(size)
    if side == "before":
        return lambda: save_cache(folder, X, y), lambda _: load_cache(folder)[0]
    return lambda: save_store(folder, X, y), lambda _: open_store(folder).features


def _load(size: Size, folder: Path, side: str) -> tuple[Work, Work]:
    """Read every row and hold on to the table."""
    X, y = _table(size)
    (save_cache if side == "before" else save_store)(folder, X, y)

    def read() -> tuple[Any, Any]:
        table = load_cache(folder)[0] if side == "before" else open_store(folder).features
        return table, table.sum()

    return read, lambda made: made[0]


CASES = {
    "features": _features,
    "features to cache": _features_to_cache,
    "cache save": _save,
    "cache load, every row read": _load,
}


def _status_kb(*keys: str) -> list[int]:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [int(lines[key].split()[0]) for key in keys]


def main() -> None:
    case, side, size, folder = sys.argv[1:]
    work, output = CASES[case](SIZES[size], Path(folder), side)
    # Garbage given back later would hide as much of what the work takes.
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    held, private = _status_kb("VmRSS", "RssAnon")
    made = work()
    peak, private_after = _status_kb("VmHWM", "RssAnon")
    np.save(Path(folder) / "made.npy", output(made))
    found = {"peak_mb": (peak - held) / 1024, "private_mb": (private_after - private) / 1024}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
