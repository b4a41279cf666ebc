"""``tfa-perf claims``."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from tfa_perf.claims.table import CLAIMS
from tfa_perf.json_output import json_alone

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to ``commands``, an ``add_subparsers()``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "claims", help="measure each claim of the performance report, with a verdict"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument(
        "--bars",
        default="sample",
        metavar="SOURCE",
        help="CSV or Parquet file, sample, or synthetic:ROWS (default sample)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[about.id for about in CLAIMS],
        metavar="ID",
        help=f"claims to measure: {', '.join(about.id for about in CLAIMS)}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller batches and fewer pairs: wider intervals"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/claims"), help="folder (default runs/claims)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone, not the table")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write ``claims.md``, ``claims.json`` and ``claims.svg``."""
    with json_alone(args.json) as document:
        document.write(_measure(args))
    return 0


def _measure(args: argparse.Namespace) -> str:
    # Imported here, so that --help needs no torch.
    from rich.console import Console

    from tfa_perf.claims.chart import claims_chart
    from tfa_perf.claims.files import write_whole
    from tfa_perf.claims.implied import implied_text
    from tfa_perf.claims.output import LEGEND, claims_json, claims_markdown, claims_table
    from tfa_perf.claims.run import describe_machine, measure
    from tfa_perf.claims.workload import Workload
    from tfa_perf.train.devices import pick_device

    began = time.perf_counter()
    device = pick_device(args.device)
    console = Console(soft_wrap=False)
    args.out.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(device)
    text = " · ".join(f"{key} {value}" for key, value in machine.items())
    console.print(implied_text(), highlight=False)
    console.print(f"machine: {text}", highlight=False, markup=False)

    def announce(what: str) -> None:
        seconds = time.perf_counter() - began
        console.print(f"{seconds:5.0f} s  measuring {what}", highlight=False, markup=False)

    with tempfile.TemporaryDirectory(prefix="tfa-perf-claims-") as folder:
        work = Workload.prepare(args.bars, device, Path(folder), quick=args.quick)
        findings = measure(work, args.only or [about.id for about in CLAIMS], announce)
    console.print(claims_table(findings))
    console.print(LEGEND, highlight=False, markup=False)
    content = claims_json(findings, machine, date=time.strftime("%Y-%m-%d"), quick=args.quick)
    files = {
        "claims.md": claims_markdown(findings, machine),
        "claims.json": content,
        "claims.svg": claims_chart(findings, f"The report's claims, measured on {text}"),
    }
    for name, written in files.items():
        write_whole(args.out / name, written)
        console.print(f"wrote {args.out / name}", highlight=False, markup=False, soft_wrap=True)
    return content
