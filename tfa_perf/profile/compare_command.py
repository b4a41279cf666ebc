"""``tfa-perf compare``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to ``commands``, an ``add_subparsers()``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="two profiled runs: what changed, with intervals",
        epilog="exit codes: 0 compared, 1 a --fail-if condition is met, 2 wrong usage, no run, or "
        "runs that are not comparable",
    )
    parser.add_argument("before", type=Path, help="folder of the run before")
    parser.add_argument("after", type=Path, help="folder of the run after")
    for side in ("before", "after"):
        parser.add_argument(
            f"--more-{side}",
            type=Path,
            nargs="+",
            default=[],
            metavar="DIR",
            help=f"repeats of the run {side}: with 3 runs or more of each the intervals cover what "
            "the machine does between runs",
        )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="page to write (default: AFTER/against-BEFORE.html)",
    )
    parser.add_argument(
        "--changed",
        action="append",
        default=[],
        metavar="KEY",
        help="what was changed on purpose and may differ, as train.batch_size or torch",
    )
    parser.add_argument(
        "--force", action="store_true", help="compare whatever differs, and say what does"
    )
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help="exit with 1 when it holds of the run after: 'data_wait>5%%' (share of the step), "
        "'step_ms>12', 'forward_ms>3', or 'step_ms>+10%%' (growth that is detected)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Compare, print, write the page; 1 when a condition is met, else 0."""
    # Imported here, so that --help needs no plotly.
    from tfa_perf.profile.compare import compare

    return compare(
        args.before,
        args.after,
        more_before=args.more_before,
        more_after=args.more_after,
        out=args.out,
        changed=args.changed,
        force=args.force,
        fail_if=args.fail_if,
        as_json=args.json,
    )
