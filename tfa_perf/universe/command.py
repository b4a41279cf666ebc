"""``tfa-perf features``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfa_perf.arguments import positive

if TYPE_CHECKING:
    from tfa_perf.universe.build import Universe

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to ``commands``, an ``add_subparsers()``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "features",
        help="features and labels of a universe of symbols, as one store",
        description="Builds features and labels of many files of bars into one store, on all cores "
        "or on a Dask cluster. Run again, it goes on from where it ended. Exit code 1 where a file "
        "could not be used; the others are built, and the store is published once all are there.",
    )
    parser.add_argument(
        "--bars",
        nargs="+",
        required=True,
        metavar="FILES",
        help="CSV or Parquet files, or quoted patterns as 'data/**/*.parquet'",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the store's folder")
    parser.add_argument(
        "--spec",
        default="tfa55",
        metavar="FILE",
        help="feature spec, JSON or YAML, or the name of a bundled one (default tfa55)",
    )
    parser.add_argument(
        "--horizon",
        type=positive,
        default=1,
        help="bars ahead whose log return the label is the sign of (default 1)",
    )
    parser.add_argument("--min-volume", type=float, help="bars with less volume are not trained on")
    parser.add_argument(
        "--min-move",
        type=float,
        help="bars whose absolute forward log return is smaller are not trained on",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=positive, help="local processes (default: one a core, 1: this process)"
    )
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster, as tcp://host:8786"
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    return parser


def run(args: argparse.Namespace) -> int:
    """Build, print what became of the files; 1 where one could not be used."""
    # Imported here, so that --help needs none of it.
    from rich.console import Console
    from rich.progress import Progress

    from tfa_perf.json_output import json_alone
    from tfa_perf.universe.build import build_universe

    console = Console(stderr=True)
    with (
        json_alone(args.json) as document,
        Progress(console=console, transient=True, disable=not console.is_interactive) as bar,
    ):
        tasks = {what: bar.add_task(what, total=None, visible=False) for what in _STEPS}

        def progress(what: str, done: int, total: int) -> None:
            bar.update(tasks[what], completed=done, total=total, visible=True)

        universe = build_universe(
            args.bars,
            args.out,
            _spec(args.spec),
            horizon=args.horizon,
            min_volume=args.min_volume,
            min_move=args.min_move,
            workers=args.workers,
            scheduler=args.scheduler,
            progress=progress,
        )
        document.write(_json(universe))
    if not args.json:
        _print_lines(universe)
    if not universe.published:
        print(
            f"tfa-perf: failed: {len(universe.failed)} of {len(universe.partitions)} files; mend "
            f"or leave them out and run again: what is built is kept. Nothing new is published "
            f"in {universe.store}",
            file=sys.stderr,
        )
    return 0 if universe.published else 1


_STEPS = ("counted", "built")


def _spec(text: str) -> Path:
    """A file, or the bundled spec of that name."""
    from tfa_kernels import SpecError
    from tfa_perf.config import bundled_configs

    path = Path(text)
    if path.exists() or path.suffix or path.parent != Path():
        return path
    folder = bundled_configs() / "features"
    named = {file.stem: file for file in folder.glob("*.json")}
    if text not in named:
        raise SpecError(
            f"{text!r}: no such file and no bundled spec of that name; bundled: "
            f"{', '.join(sorted(named))}"
        )
    return named[text]


def _json(universe: Universe) -> str:
    import json
    from dataclasses import asdict

    content = {
        "store": str(universe.store),
        "published": universe.published,
        "rows": sum(each.rows for each in universe.partitions),
        "features": universe.features,
        "partitions": [asdict(each) for each in universe.partitions],
    }
    return json.dumps(content, indent=1)


def _print_lines(universe: Universe) -> None:
    """What became of the files in numbers; by name only those that failed, a line each."""
    states = Counter(str(each.state) for each in universe.partitions)
    there = [each for each in universe.partitions if each.state != "failed"]
    counts = ", ".join(f"{states[state]:,} {state}" for state in _ORDER if states[state])
    print(
        f"{len(universe.partitions):,} files: {counts}; {sum(e.rows for e in there):,} rows x "
        f"{universe.features} features, {sum(e.symbols for e in there):,} series"
    )
    for each in universe.failed:
        print(f"{each.file}: {each.reason}")
    if universe.published:
        print(f"wrote {universe.store}")


_ORDER = ("built", "copied", "kept", "failed")
