"""``tfa-perf completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["SHELLS", "add_parser", "run"]

SHELLS = ("bash", "zsh", "fish")
_NOTES = """\
bash: tfa-perf completion bash > ~/.local/share/bash-completion/completions/tfa-perf
zsh:  tfa-perf completion zsh > FOLDER/_tfa-perf, a folder of $fpath
fish: tfa-perf completion fish > ~/.config/fish/completions/tfa-perf.fish
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to ``commands``, an ``add_subparsers()``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "completion",
        help="print completion for bash, zsh or fish",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print the script that completes ``parser``'s commands."""
    # Imported here, so that --help needs neither.
    import shtab

    print(shtab.complete(parser, shell=args.shell), end="")
    return 0
