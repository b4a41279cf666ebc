"""``tfa-perf scaling``."""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfa_perf.arguments import positive
from tfa_perf.json_output import json_alone

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to ``commands``, an ``add_subparsers()``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "scaling", help="cost as rows, features, window and batch grow"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument(
        "--quick", action="store_true", help="three sizes a sweep and fewer runs: wider intervals"
    )
    parser.add_argument(
        "--seconds",
        type=positive,
        help="that a side has at a size; larger ones are left out (default 8, with --quick 1.5)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/scaling"), help="folder (default runs/scaling)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone, not the table")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure, print the exponents, write ``scaling.json``, ``scaling.md`` and the plots."""
    with json_alone(args.json) as document:
        document.write(_measure(args))
    return 0


def _measure(args: argparse.Namespace) -> str:
    # Imported here, so that --help needs no torch.
    from rich.console import Console

    from tfa_perf.claims.files import write_whole
    from tfa_perf.claims.run import describe_machine
    from tfa_perf.scaling.data import data_sweeps
    from tfa_perf.scaling.output import exponents_text, scaling_json, scaling_markdown
    from tfa_perf.scaling.plot import sweep_plot
    from tfa_perf.scaling.sizes import Sizes
    from tfa_perf.scaling.sweep import Swept, run_sweep
    from tfa_perf.scaling.training import training_sweeps
    from tfa_perf.train.devices import pick_device

    began = time.perf_counter()
    device = pick_device(args.device)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    args.out.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(device)
    console.print("machine: " + " · ".join(f"{key} {value}" for key, value in machine.items()))
    sizes = Sizes.of(quick=args.quick)
    if args.seconds is not None:
        sizes = replace(sizes, budget_s=float(args.seconds))
    results: list[Swept] = []
    with tempfile.TemporaryDirectory(prefix="tfa-perf-scaling-", dir=args.out) as folder:
        for sweeps in (data_sweeps(sizes, device, Path(folder)), training_sweeps(sizes, device)):
            for sweep in sweeps:
                swept = run_sweep(sweep, sizes.budget_s, device)
                results.append(swept)
                seconds = time.perf_counter() - began
                console.print(f"{seconds:5.0f} s  {sweep.work} ~ {exponents_text(swept)}")
                for left in swept.left_out:
                    console.print(f"         left out: {left.size:,} {left.side}: {left.why}")
    files = {f"{r.sweep.id}.svg": sweep_plot(r) for r in results if r.points}
    files["scaling.md"] = scaling_markdown(results, machine)
    files["scaling.json"] = scaling_json(
        results, machine, date=time.strftime("%Y-%m-%d"), quick=args.quick
    )
    for name, content in files.items():
        write_whole(args.out / name, content)
    console.print(f"wrote {args.out / 'scaling.md'}, scaling.json and {len(files) - 2} plots")
    return files["scaling.json"]
