"""Phases of the two trainers, step by step and in turn; and the work that a run does once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from numpy.typing import NDArray

from tfa_kernels import FeatureMatrix, FeatureSpec, build_features
from tfa_perf.baseline.cache import load_cache, save_cache
from tfa_perf.baseline.features import build_features as build_features_as_written
from tfa_perf.claims.measure import interleave
from tfa_perf.data.bars import Bars
from tfa_perf.data.store import create_store, open_store
from tfa_perf.demo.sides import Sides
from tfa_perf.profile.hooks import hooked
from tfa_perf.profile.laps import Lap
from tfa_perf.profile.phases import Recorder, recording

__all__ = ["StepTimes", "run_step", "time_once", "time_steps"]


@dataclass
class StepTimes:
    """Laps of one side and the windows of each."""

    laps: list[Lap] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)


def run_step(side: Iterator[int], device: torch.device, log: TextIO) -> int:
    """One step, its prints into ``log``, finished on the device when this returns."""
    with redirect_stdout(log):
        windows = next(side)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return windows


def time_steps(
    sides: Sides,
    device: torch.device,
    *,
    pairs: int,
    warmup: int,
    log: TextIO,
    advance: Callable[[], None],
) -> tuple[StepTimes, StepTimes]:
    """Alternate the two trainers step by step, swapping which goes first.

    The first ``warmup`` steps of either side run before anything is kept. ``advance`` is called
    after each pair, outside the timing.
    """
    times = (StepTimes(), StepTimes())
    recorder = Recorder()
    with recording(recorder), hooked():
        for pair in range(-warmup, pairs):
            for side in (0, 1) if pair % 2 == 0 else (1, 0):
                recorder.lap()
                windows = run_step((sides.before, sides.after)[side], device, log)
                lap = recorder.lap()
                if pair >= 0:
                    times[side].laps.append(lap)
                    times[side].windows.append(windows)
            advance()
    return times


def time_once(
    bars: Bars, spec: FeatureSpec, folder: Path, *, pairs: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds before and after of feature building, cache writing, and cache reading.

    Files go into ``folder``. A cache is read to its last byte on either side: opening a memory
    map reads nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    features = build_features(bars, spec)
    labels = np.zeros(len(bars), dtype=np.float32)
    stored = folder / "store"

    def save() -> None:
        _save_store(stored, features, labels, bars)

    def load() -> None:
        store = open_store(stored)
        _read_through(store.features, store.labels)

    sides: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "feature building": (
            lambda: build_features_as_written(bars, spec),
            lambda: build_features(bars, spec),
        ),
        "cache save": (lambda: save_cache(folder, features.values, labels), save),
        "cache load": (lambda: _read_through(*load_cache(folder)), load),
    }
    times = {}
    for name, (before, after) in sides.items():
        before()
        after()
        times[name] = interleave(before, after, pairs)
    return times


def _save_store(
    path: Path,
    features: FeatureMatrix,
    labels: np.ndarray[tuple[int], np.dtype[np.float32]],
    bars: Bars,
) -> None:
    rows, columns = features.values.shape
    with create_store(path, rows=rows, features=columns) as writer:
        writer.features[...] = features.values
        writer.labels[...] = labels
        writer.ts[...] = bars.ts
        writer.commit(
            names=features.names, spec_hash=features.spec_hash, convention=features.convention
        )


def _read_through(features: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
    return float(features.sum() + labels.sum())
