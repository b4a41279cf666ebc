"""Attention in short windows on a CUDA device against torch's fastest, over window and head sizes.

    python -m benchmarks.attention_table [--rounds 9] [--out FILE.json]

Forward and backward in bfloat16 of 1024 windows of 128 columns, by CUDA graphs that are replayed
in turn. Ratios are torch's time over ours, medians with their 95 % interval; torch's is the backend
of scaled_dot_product_attention that is the fastest for the size.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_parts import BATCH, DEVICE, event_ms, graph_of
from tfa_perf.claims.measure import paired_ratio
from tfa_perf.train import attention

COLUMNS = 128
ROWS = (8, 16, 24, 32, 48, 64, 96, 128)
WIDTHS = (16, 32, 64)
_REPEATS = 10

Mix = Callable[[], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="JSON file for all times")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch sees no CUDA device")
    torch_is = torch.__version__
    title = (
        f"{torch.cuda.get_device_name()}, torch {torch_is}, {BATCH} windows of {COLUMNS} columns"
    )
    table = Table(title=title)
    for heading in ("rows", "head", "kind", "ours, ms", "torch, ms", "torch's", "torch / ours"):
        table.add_column(heading)
    sizes = []
    for rows in ROWS:
        for width in WIDTHS:
            for kind, make in (("all rows", every_row), ("last row", last_row)):
                ours, by_torch, selected = make(rows, width)
                if not selected:
                    continue
                name, times = against_torch(ours, by_torch, args.rounds)
                mine, theirs = (list(side) for side in zip(*times, strict=True))
                table.add_row(
                    str(rows), str(width), kind, f"{median(mine):.4f}", f"{median(theirs):.4f}",
                    name, str(paired_ratio(theirs, mine)),
                )  # fmt: skip
                size = {"rows": rows, "width": width, "kind": kind, "torch": name, "ms": times}
                sizes.append(size)
    Console(width=100).print(table)
    if args.out is not None:
        record = {"device": torch.cuda.get_device_name(), "torch": torch_is, "windows": BATCH}
        record |= {"columns": COLUMNS, "sizes": sizes}
        args.out.write_text(json.dumps(record, indent=1))


def every_row(rows: int, width: int) -> tuple[Mix, Mix, bool]:
    heads = COLUMNS // width
    qkv, gradient = _random(BATCH, rows, 3 * COLUMNS), _random(BATCH, rows, COLUMNS)
    return (
        lambda: torch.autograd.grad(attention.attention(qkv, heads), qkv, gradient)[0],
        lambda: torch.autograd.grad(attention._by_torch(qkv, heads), qkv, gradient)[0],
        attention._short(qkv, width, 0.0),
    )


def last_row(rows: int, width: int) -> tuple[Mix, Mix, bool]:
    heads = COLUMNS // width
    query, kv = _random(BATCH, COLUMNS), _random(BATCH, rows, 2 * COLUMNS)
    gradient = _random(BATCH, COLUMNS)

    def by(mix: Any) -> Mix:
        return lambda: torch.autograd.grad(mix(query, kv, heads), (query, kv), gradient)[1]

    return (
        by(attention.last_attention),
        by(attention._last_by_torch),
        attention._short(kv, width, 0),
    )


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)


def against_torch(ours: Mix, by_torch: Mix, rounds: int) -> tuple[str, list[tuple[float, float]]]:
    """Torch's fastest backend, and ms of both sides in each round."""
    graphs = {}
    for name, backend in SDPBackend.__members__.items():
        # Not each of them takes every shape.
        with suppress(RuntimeError), sdpa_kernel(backend):
            graphs[name.lower()] = graph_of(by_torch, _REPEATS)
    fastest = min(graphs, key=lambda name: min(event_ms(graphs[name].replay, 1) for _ in range(5)))
    mine, theirs = graph_of(ours, _REPEATS), graphs[fastest]
    times = []
    for turn in range(rounds):
        pair = {}
        for side in (mine, theirs) if turn % 2 else (theirs, mine):
            pair[side] = event_ms(side.replay, 1) / _REPEATS
        times.append((pair[mine], pair[theirs]))
    return fastest, times


if __name__ == "__main__":
    main()
