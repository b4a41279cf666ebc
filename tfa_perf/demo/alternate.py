"""The two trainers in turn, with nothing else running: what the demo's stacks are sampled from.

``python -m tfa_perf.demo.alternate OPTIONS``, where OPTIONS is the JSON of ``Options``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from pydantic import BaseModel

from tfa_perf.config import Config
from tfa_perf.data.bars import load_bars
from tfa_perf.demo.sides import build_sides
from tfa_perf.demo.timing import run_step

__all__ = ["Options", "main"]


class Options(BaseModel):
    """What to run: either config, the bars, and how many steps of either side."""

    before: Config
    after: Config
    bars: str
    device: str
    steps: int
    log: Path


def main(options: Options) -> None:
    """Alternate ``options.steps`` steps of either side."""
    device = torch.device(options.device)
    sides = build_sides(
        load_bars(options.bars), options.before, options.after, device, steps=options.steps
    )
    with options.log.open("w", encoding="utf-8") as log:
        for step in range(options.steps):
            for side in (0, 1) if step % 2 == 0 else (1, 0):
                run_step((sides.before, sides.after)[side], device, log)


if __name__ == "__main__":
    main(Options.model_validate_json(sys.argv[1]))
