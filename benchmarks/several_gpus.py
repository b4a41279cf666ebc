"""Windows per second on one GPU and on all of a host, the global batch growing with them.

    torchrun --nproc-per-node 2 -m benchmarks.several_gpus [--rounds 20] [--out FILE.json]

First both must train alike: 100 steps of the processes together, and of the first alone with the
same global batch, in float32. Then rounds in turn, in which the first trains alone on 1024 windows
a step or all of them train together on 1024 each; the ratio of windows per second is the median
over the rounds with its 95 % interval. Each with one step a graph, and with several.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from benchmarks.gpu_parts import BATCH, FEATURES
from benchmarks.gpu_step import make_table
from tfa_perf.claims.measure import paired_ratio
from tfa_perf.config import Config, load_config
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.optimizer import make_optimizer
from tfa_perf.train.ranks import ALONE, Ranks, local_rank, torchrun_ranks
from tfa_perf.train.step import TrainStep, make_step

_COMPARED_STEPS = 100
# Sums over a batch are added in another order, and a hundred steps of AdamW amplify that.
_TOLERANCE = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=["report", "tuned"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50, help="steps in a round, at least")
    parser.add_argument("--graph-steps", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--out", type=Path, help="JSON file for all times")
    args = parser.parse_args()
    rank = local_rank()
    if rank is None:
        parser.error("start several processes: torchrun --nproc-per-node 2 -m " + __package__)
    device = torch.device("cuda", rank)
    X, y = make_table()
    record: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
    }
    with torchrun_ranks(device) as ranks:
        record["gpus"] = ranks.world_size
        for name, count in product(args.configs, args.graph_steps):
            config, way = load_config(name), f"{name}, {count} steps a graph"
            steps = {"graph_steps": count}
            apart = furthest_losses(config, X, y, device, ranks, **steps)
            if ranks.first and apart > _TOLERANCE:
                raise SystemExit(f"{way}: losses differ by {apart:.1e}, so there is no number")
            alone, together = interleaved(
                config, X, y, device, ranks, args.rounds, args.steps, **steps
            )
            record[way] = {"losses_apart": apart, "alone_s": alone, "together_s": together}
            if ranks.first:
                print(
                    f"{way}: losses within {apart:.1e}; windows/s alone "
                    f"{1 / np.median(alone):,.0f}, {ranks.world_size} GPUs "
                    f"{1 / np.median(together):,.0f}: {paired_ratio(alone, together)}",
                    flush=True,
                )
        if ranks.first and args.out is not None:
            args.out.write_text(json.dumps(record, indent=1))


def step_of(
    config: Config, X: np.ndarray, y: np.ndarray, batch: int, device: torch.device, ranks: Ranks,
    **options: Any,
) -> TrainStep:  # fmt: skip
    torch.manual_seed(0)
    model = WindowEncoder(FEATURES, config.model).to(device)
    loader = WindowLoader(
        X, y, window=config.data.window, batch_size=batch, shuffle=True, drop_last=True,
        device=device, rank=ranks.rank, world_size=ranks.world_size,
    )  # fmt: skip
    return make_step(
        model, make_optimizer(model), loader, clip_norm=config.train.clip_norm, graph=True,
        ranks=ranks, **options,
    )  # fmt: skip


def furthest_losses(
    config: Config, X: np.ndarray, y: np.ndarray, device: torch.device, ranks: Ranks,
    **options: Any,
) -> float:  # fmt: skip
    """Largest difference of a yield's loss between all ranks and the first alone; 0 on others."""
    together = losses(step_of(config, X, y, BATCH, device, ranks, **options))
    if not ranks.first:
        return 0.0
    alone = losses(step_of(config, X, y, BATCH * ranks.world_size, device, ALONE, **options))
    return float((together - alone).abs().max())


def losses(step: TrainStep) -> torch.Tensor:
    done, found = 0, []
    for _ in step.epoch():
        found.append(step.loss)
        done += step.taken
        if done >= _COMPARED_STEPS:
            break
    return torch.stack(found)


def interleaved(
    config: Config, X: np.ndarray, y: np.ndarray, device: torch.device, ranks: Ranks,
    rounds: int, steps: int, **options: Any,
) -> tuple[list[float], list[float]]:  # fmt: skip
    """Seconds per window of each round: the first rank alone, and all of them together."""

    def endless(own: Ranks) -> Iterator[int]:
        """Windows of so many steps, or of a few more."""
        step = step_of(config, X, y, BATCH, device, own, bf16=True, **options)
        done = seen = 0
        while True:
            for windows in step.epoch():
                done, seen = done + step.taken, seen + windows
                if done >= steps:
                    yield seen
                    done = seen = 0

    sides = {True: endless(ranks), False: endless(ALONE) if ranks.first else None}
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(-2, rounds):
        order = (False, True) if number % 2 else (True, False)
        for all_of_them in order:
            side = sides[all_of_them]
            distributed.barrier(ranks.control)
            began = time.perf_counter()
            windows = next(side) if side is not None else 1
            torch.cuda.synchronize(device)
            distributed.barrier(ranks.control)
            if number >= 0:
                times[all_of_them].append((time.perf_counter() - began) / windows)
    return times[False], times[True]


if __name__ == "__main__":
    main()
