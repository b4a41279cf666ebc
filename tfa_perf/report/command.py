"""``tfa-perf report``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to ``commands``, an ``add_subparsers()``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report", help="benchmarks, claims, scaling and flame graphs as one HTML page"
    )
    parser.add_argument(
        "--benchmark",
        type=Path,
        metavar="RUN.json",
        help="saved run of pytest benchmarks (default: the newest complete one in .benchmarks)",
    )
    parser.add_argument(
        "--claims",
        type=Path,
        metavar="DIR",
        help="what tfa-perf claims wrote (default runs/claims)",
    )
    parser.add_argument(
        "--scaling",
        type=Path,
        metavar="DIR",
        help="what tfa-perf scaling wrote (default runs/scaling)",
    )
    parser.add_argument(
        "--profile",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="what tfa-perf profile or demo wrote (default runs/demo)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), help="page (default report.html)"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the page. A part that is not there is named on it, with the command that makes it."""
    # Imported here, so that --help needs no torch.
    from tfa_perf.claims.files import write_whole
    from tfa_perf.report.benchmark import newest_run, read_benchmark
    from tfa_perf.report.page import results_page
    from tfa_perf.report.parts import read_claims, read_profile, read_scaling

    run_file = args.benchmark or newest_run(Path(".benchmarks"))
    claims = args.claims or _made(Path("runs/claims"), "claims.json")
    scaling = args.scaling or _made(Path("runs/scaling"), "scaling.json")
    demo = _made(Path("runs/demo"), "flame.html")
    profiles = args.profile or ([demo] if demo else [])
    page = results_page(
        read_benchmark(run_file) if run_file else None,
        read_claims(claims) if claims else None,
        read_scaling(scaling) if scaling else None,
        [read_profile(folder) for folder in profiles],
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, page)
    print(f"wrote {args.out} ({len(page) / 1e6:.1f} MB)")
    return 0


def _made(folder: Path, file: str) -> Path | None:
    return folder if (folder / file).is_file() else None
