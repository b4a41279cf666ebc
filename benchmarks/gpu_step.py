"""Milliseconds per optimizer step on a CUDA device, from the report's loop to one CUDA graph.

    python -m benchmarks.gpu_step [--rounds 20] [--steps 16] [--out FILE.json]

Every round runs each way for as many steps, or up to the end of the graph in which they are over,
and then waits for the device; ratios are to the report's config as written in the same round, and
are medians with their 95 % interval.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.gpu_parts import (
    BATCH,
    DEVICE,
    FEATURES,
    ROWS,
    gather,
    one_layer_attention,
    phases_as_written,
    seeded,
)
from benchmarks.training_peers import PEERS, missing, stock_loader
from tfa_perf.baseline.loop import train_steps as train_steps_as_written
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.claims.measure import paired_ratio
from tfa_perf.config import Config, load_config
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.optimizer import make_optimizer
from tfa_perf.train.step import make_step

AS_WRITTEN = "as written"
ONE, SEVERAL = "graph", "graph of 8 steps"
GRAPH_STEPS = 8

# An item is the number of optimizer steps that it took.
Side = Iterator[int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=16, help="steps of each way in a round")
    parser.add_argument("--configs", nargs="+", default=["report", "tuned"])
    parser.add_argument("--kernels", action="store_true", help="list the graph step's kernels")
    parser.add_argument("--out", type=Path, help="JSON file for all times")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch sees no CUDA device")
    console = Console(width=110)
    console.print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, B={BATCH}, "
        f"N={ROWS:,}, F={FEATURES}"
    )
    X, y = make_table()
    configs = {
        name: load_config(name, [f"train.batch_size={BATCH}", "train.epochs=1000000"])
        for name in dict.fromkeys(["report", *args.configs])
    }
    record: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    # First: whatever compiles starts processes that keep the host busy for a while.
    record["gather_ms"] = {n: gather(c, X, y) for n, c in configs.items()}
    console.print(f"rows to the device and gather, ms: {record['gather_ms']}")
    record["phases_ms"] = {n: phases_as_written(c, X, y) for n, c in configs.items()}
    for name, phases in record["phases_ms"].items():
        parts = ", ".join(f"{k} {v:.2f}" for k, v in phases.items())
        console.print(f"{name} as written, each phase waited for, ms: {parts}")
    record["attention_ms"] = {n: one_layer_attention(c) for n, c in configs.items()}
    for name, rows in record["attention_ms"].items():
        parts = ", ".join(f"{k} {v:.3f}" for k, v in rows.items())
        console.print(f"{name} attention of one layer, forward + backward, bf16, ms: {parts}")

    for name in PEERS:
        if (package := missing(name)) is not None:
            console.print(f"{name}: left out, {package} is not installed")
    sides: dict[tuple[str, str], Side] = {}
    start = {}
    for name, config in configs.items():
        for way, make in ways(config, X, y).items():
            if name not in args.configs and way != AS_WRITTEN:
                continue
            sides[name, way] = make()
            began = time.perf_counter()
            run(sides[name, way], 3)
            start[name, way] = time.perf_counter() - began
    times = interleaved(sides, args.rounds, args.steps)
    record["ms"] = {f"{n}: {w}": [t * 1e3 for t in v] for (n, w), v in times.items()}
    record["first_steps_s"] = {f"{n}: {w}": s for (n, w), s in start.items()}
    print_table(console, times, start)
    for name in args.configs:
        for way in (ONE, SEVERAL):
            host = host_time(sides[name, way])
            launches, busy, table = kernels(sides[name, way])
            epoch = epoch_time(sides[name, way])
            figures = {"host_ms": host, "launches": launches, "kernels_ms": busy, "epoch_s": epoch}
            for key, value in figures.items():
                record.setdefault(key, {})[f"{name}: {way}"] = value
            console.print(
                f"{name}, {way}: the host takes {host:.3f} ms a step, which has {launches:g} "
                f"launches and {busy:.3f} ms of kernels; {ROWS:,} windows take {epoch:.3f} s"
            )
            if args.kernels:
                console.print(table, highlight=False)
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1))


def make_table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, FEATURES), dtype=np.float32)
    return X, (X[:, 0] + rng.standard_normal(ROWS, dtype=np.float32) > 0).astype(np.float32)


def ways(config: Config, X: np.ndarray, y: np.ndarray) -> dict[str, Callable[[], Side]]:
    """The ways to train: generators that take optimizer steps and yield how many."""
    window, train = config.data.window, config.train

    def as_written() -> Side:
        model = seeded(TFATransformer, config)
        windows = SeqWindows(X, y[:, None], window, window - 1, ROWS - 1, BATCH)
        with redirect_stdout(io.StringIO()):
            for _ in train_steps_as_written(model, windows, train, DEVICE):
                yield 1

    def ours(model_class: Any, **options: Any) -> Callable[[], Side]:
        def steps() -> Side:
            model = seeded(model_class, config)
            loader = WindowLoader(
                X, y, window=window, batch_size=BATCH, shuffle=True, device=DEVICE
            )
            optimizer = make_optimizer(model, lr=train.lr, weight_decay=train.weight_decay)
            step = make_step(model, optimizer, loader, clip_norm=train.clip_norm, **options)
            for epoch in range(train.epochs):
                loader.set_epoch(epoch)
                for _ in step.epoch():
                    # As a run looks at it.
                    _ = step.loss
                    yield step.taken

        return steps

    def reduce_overhead() -> Side:
        """What torch's own CUDA graphs give: forward and backward, the rest as usual."""
        model = seeded(WindowEncoder, config)
        compiled = torch.compile(model, mode="reduce-overhead")
        loader = WindowLoader(X, y, window=window, batch_size=BATCH, shuffle=True, device=DEVICE)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=train.lr, weight_decay=train.weight_decay, fused=True
        )
        criterion = nn.BCEWithLogitsLoss()
        for epoch in range(train.epochs):
            loader.set_epoch(epoch)
            for bx, by in loader:
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(DEVICE, torch.bfloat16):
                    logits = compiled(bx)
                loss = criterion(logits.float(), by)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                yield 1

    def peer(name: str) -> Callable[[], Side]:
        def steps() -> Side:
            loader = stock_loader(X, y, window, BATCH, DEVICE)
            for _ in PEERS[name](seeded(TFATransformer, config), loader, train, DEVICE):
                yield 1

        return steps

    lean: dict[str, Any] = {"model_class": WindowEncoder, "bf16": True}
    return {
        AS_WRITTEN: as_written,
        "table on the device": ours(TFATransformer),
        "+ lean model": ours(WindowEncoder),
        "+ bf16": ours(**lean),
        "+ torch.compile": ours(**lean, compile=True),
        "torch.compile reduce-overhead": reduce_overhead,
        **{
            f"{name}, stock DataLoader": peer(name)
            for name in ("Lightning", "Accelerate")
            if missing(name) is None
        },
        "graph, compiled": ours(**lean, graph=True, compile=True),
        ONE: ours(**lean, graph=True),
        SEVERAL: ours(**lean, graph=True, graph_steps=GRAPH_STEPS),
    }


def run(side: Side, steps: int) -> int:
    """Take ``steps`` steps or more, wait for the device, and return how many they were."""
    with redirect_stdout(io.StringIO()):
        taken = take(side, steps)
    torch.cuda.synchronize()
    return taken


def take(side: Side, steps: int) -> int:
    taken = 0
    while taken < steps:
        taken += next(side)
    return taken


def interleaved(
    sides: dict[tuple[str, str], Side], rounds: int, steps: int
) -> dict[tuple[str, str], list[float]]:
    """Seconds per step of each side in each round; the order turns by one place a round."""
    order = list(sides)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in order}
    for round_number in range(-2, rounds):
        turn = round_number % len(order)
        for key in order[turn:] + order[:turn]:
            torch.cuda.synchronize()
            began = time.perf_counter()
            taken = run(sides[key], steps)
            if round_number >= 0:
                times[key].append((time.perf_counter() - began) / taken)
    return times


def print_table(
    console: Console,
    times: dict[tuple[str, str], list[float]],
    start: dict[tuple[str, str], float],
) -> None:
    base = times["report", AS_WRITTEN]
    table = Table(title="one optimizer step")
    for heading in ("config", "way", "ms", "report as written / this", "own as written / this"):
        table.add_column(heading)
    table.add_column("first steps, s", justify="right")
    for (name, way), values in times.items():
        own = paired_ratio(times[name, AS_WRITTEN], values) if (name, AS_WRITTEN) in times else "-"
        table.add_row(
            name,
            way,
            f"{np.median(values) * 1e3:.3f}",
            str(paired_ratio(base, values)),
            str(own),
            f"{start[name, way]:.1f}",
        )
    console.print(table)


def host_time(side: Side, steps: int = 32) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    taken = take(side, steps)
    took = (time.perf_counter() - began) * 1e3 / taken
    torch.cuda.synchronize()
    return took


def epoch_time(side: Side, repeats: int = 5) -> float:
    """Seconds of as many steps as an epoch has, with what begins a pass; the median."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        taken = run(side, -(-ROWS // BATCH))
        times.append((time.perf_counter() - began) * ROWS / (taken * BATCH))
    return statistics.median(times)


def kernels(side: Side, steps: int = 16) -> tuple[float, float, str]:
    """Launches and ms of kernels a step, and a table of them."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        taken = run(side, steps)
    averages = profile.key_averages()
    launched = [e for e in averages if e.self_device_time_total]
    return (
        sum(e.count for e in launched) / taken,
        sum(e.self_device_time_total for e in launched) / taken / 1e3,
        averages.table(sort_by="self_cuda_time_total", row_limit=60, max_name_column_width=60),
    )


if __name__ == "__main__":
    main()
