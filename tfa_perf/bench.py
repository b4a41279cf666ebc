"""``tfa-perf bench``: the benchmark suite, where its source is."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfa_perf.arguments import command_parser
from tfa_perf.json_output import json_alone

__all__ = ["BenchError", "main", "parser", "suite_root"]

_NOTES = """\
Further options are pytest's, as -k window, -m peers, --size small, --impl before, --aa or
--benchmark-compare-fail median:10%. Paths among them count from the source's folder.

"""
_COMPARE = "--benchmark-compare"
# pytest's: all passed, some failed, interrupted, internal error, wrong usage, no test.
_CODES = {0: 0, 1: 1, 2: 130, 3: 1, 4: 2, 5: 2}


class BenchError(ValueError):
    """The benchmark suite is not there."""


def parser() -> argparse.ArgumentParser:
    """The arguments that are not pytest's."""
    parser = command_parser(
        "tfa-perf bench",
        "Before and after of each bottleneck, timed in turn and compared with the last run.",
        notes=_NOTES,
    )
    parser.add_argument(
        "--source",
        type=Path,
        metavar="DIR",
        help="folder of tfa-perf's source (default: the one installed from, or the current one)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the saved run as JSON alone, tables to stderr"
    )
    return parser


def suite_root(source: Path | None) -> Path:
    """The folder that holds ``benchmarks/``: ``source``, else the package's, else a parent of here.

    Raises BenchError where it is not there.
    """
    here = Path.cwd()
    given = [source] if source is not None else [Path(__file__).parents[1], here, *here.parents]
    for folder in given:
        if (folder / "benchmarks" / "rounds.py").is_file():
            return folder.resolve()
    where = "the current folder or above it" if source is None else f"--source {source}"
    raise BenchError(
        f"the benchmarks are not in {where}: they come with tfa-perf's source, not with the "
        "wheel; unpack the source distribution or clone the repository and give --source DIR"
    )


def main(argv: Sequence[str]) -> int:
    """Run pytest over the suite; returns the exit code.

    Raises BenchError where the suite is not there.
    """
    args, further = parser().parse_known_args(argv)
    root = suite_root(args.source)
    # Imported here, so that --help needs no pytest.
    import pytest

    os.chdir(root)
    command = ["benchmarks", *further]
    if not any(option.startswith((_COMPARE, "--benchmark-disable")) for option in further):
        command.append(_COMPARE)
    with json_alone(args.json) as document, tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "run.json")
        code = int(pytest.main([*command, *([f"--benchmark-json={saved}"] if args.json else [])]))
        if args.json:
            # Without one where nothing ran.
            document.write(saved.read_text(encoding="utf-8") if saved.exists() else "null")
    return _CODES.get(code, code)
