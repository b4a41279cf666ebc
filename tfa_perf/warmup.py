"""``tfa-perf warmup``."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to ``commands``, an ``add_subparsers()``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "warmup",
        help="compile every kernel ahead, as for an image",
        description="Compiles every CPU kernel into the cache that later processes read, or loads "
        "it from there. NUMBA_CACHE_DIR names another folder. Exit code 1 where nothing is kept.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone, not the table")
    return parser


def run(args: argparse.Namespace) -> int:
    """Compile everything, print the seconds of each kernel; 1 where no cache keeps it."""
    # Imported here, so that --help needs no Numba.
    import json

    from tfa_kernels import cache_folders, warm_up
    from tfa_perf.json_output import json_alone

    took: dict[str, float] = {}
    with json_alone(args.json) as document:
        for name, seconds in warm_up():
            took[name] = seconds
            print(f"{seconds:7.2f} s  {name}", flush=True)
        folders = sorted(map(str, cache_folders())) if took else []
        print(f"{sum(took.values()):7.2f} s  in all, {len(took)} kernels")
        for folder in folders:
            print(f"kept in {folder}")
        if not folders:
            print("nothing is kept: NUMBA_DISABLE_JIT is set, or no cache folder can be written")
        json.dump({"seconds": took, "folders": folders}, document, indent=1)
    return 0 if folders else 1
