"""``tfa-perf doctor``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to ``commands``, an ``add_subparsers()``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="what this installation can do, and what to mend",
        description="Looks at versions, threads, permissions, the kernel cache and GPUs, and tests "
        "every kernel against its oracle. Exit code 1 where there is a problem.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    return parser


def run(args: argparse.Namespace) -> int:
    """Look at everything, print it; 1 where there is a problem."""
    # Imported here, so that --help needs no torch.
    import json
    from dataclasses import asdict

    from rich.console import Console

    from tfa_perf.json_output import json_alone

    try:
        from tfa_perf.doctor.examine import examine
    except ValueError as error:
        # numba reads its variables when it is imported, and refuses 0 threads.
        given = ", ".join(f"{k}={v}" for k, v in os.environ.items() if k.startswith("NUMBA_"))
        print(f"!!  numba does not start: {error}\n    remedy: unset {given}", file=sys.stderr)
        return 1

    with json_alone(args.json) as document:
        checks = examine()
        json.dump([asdict(check) for check in checks], document, indent=1)
    problems = sum(check.problem is not None for check in checks)
    if args.json:
        return 1 if problems else 0
    console = Console(soft_wrap=True, highlight=False, markup=False)
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark = "ok" if check.problem is None else "!!"
        console.print(f"{mark}  {check.name:<{width}}  {check.found}")
        if check.problem is not None:
            console.print(f"    {'':<{width}}  problem: {check.problem}")
            console.print(f"    {'':<{width}}  remedy: {check.remedy}")
    console.print("no problem found" if not problems else f"{problems} to mend")
    return 1 if problems else 0
