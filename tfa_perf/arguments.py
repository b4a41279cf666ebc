"""Command line arguments that several commands share."""

from __future__ import annotations

import argparse

__all__ = ["add_shared_arguments", "command_parser", "positive"]

_EXIT_CODES = """\
exit codes: 0 done, 1 failed, 2 wrong usage or input, 130 or 143 interrupted
"""


def command_parser(
    prog: str, description: str, *, notes: str = "", add_help: bool = True
) -> argparse.ArgumentParser:
    """A parser whose help ends with ``notes`` and what the exit codes mean."""
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=notes + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=add_help,
    )


def add_shared_arguments(
    parser: argparse.ArgumentParser, *, config: str
) -> argparse._MutuallyExclusiveGroup:
    """Add --config (default ``config``), --set, --bars and --device to ``parser``.

    Returns the group that what can be given in place of --bars belongs to.
    """
    parser.add_argument(
        "--config",
        default=config,
        metavar="FILE",
        help=f"YAML file, or report or tuned (default {config})",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one key of the config, as train.batch_size=256",
    )
    data = parser.add_mutually_exclusive_group()
    data.add_argument(
        "--bars",
        metavar="SOURCE",
        help="CSV or Parquet file, sample, or synthetic:ROWS (default: the config's)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    return data


def positive(text: str) -> int:
    """A whole number from 1, as an argparse type."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return value
