"""The ``tfa-perf`` command."""

from __future__ import annotations

import argparse
import atexit
import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfa_perf import __version__, bench, completion, warmup
from tfa_perf.adopt import command as adopt
from tfa_perf.arguments import add_shared_arguments, command_parser, positive
from tfa_perf.claims import command as claims
from tfa_perf.doctor import command as doctor
from tfa_perf.interrupts import exit_code, interruptible
from tfa_perf.profile import compare_command as compare
from tfa_perf.report import command as report
from tfa_perf.scaling import command as scaling
from tfa_perf.tune import command as tune
from tfa_perf.universe import command as features

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    # A last search for cycles among torch's modules would take most of a second.
    atexit.register(gc.freeze)
    try:
        with interruptible():
            return _run(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt as error:
        print("tfa-perf: interrupted", file=sys.stderr)
        return exit_code(error)


def _run(argv: list[str]) -> int:
    # These are modules with arguments of their own; torch or pytest comes with them.
    if argv[:1] == ["profile"]:
        from tfa_perf.profile.__main__ import main as profile

        return profile(argv[1:])
    if argv[:1] == ["train"]:
        from tfa_perf.train.__main__ import main as train

        return train(argv[1:])
    try:
        if argv[:1] == ["bench"]:
            return bench.main(argv[1:])
        args = _parser().parse_args(argv)
        return _COMMANDS[args.command](args)
    except Exception as error:
        # Which they are is looked up here: an interrupt does not wait for torch to be imported.
        if isinstance(error, _input_errors()):
            print(f"tfa-perf: error: {error}", file=sys.stderr)
            return 2
        if isinstance(error, _failures()):
            print(f"tfa-perf: failed: {error}", file=sys.stderr)
            return 1
        raise


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "tfa-perf",
        "Find, time and remove the bottlenecks of PyTorch time-series trainers.",
        add_help=False,
    )
    # The usage line shows them; the commands need the rest of a screen.
    hidden = argparse.SUPPRESS
    parser.add_argument("-h", "--help", action="help", help=hidden)
    version = f"tfa-perf {__version__}"
    parser.add_argument("--version", action="version", version=version, help=hidden)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_commands(commands)
    return parser


def _whole_parser() -> argparse.ArgumentParser:
    """With the arguments of the commands that are modules of their own."""
    from tfa_perf.profile.command_line import arguments as profile
    from tfa_perf.train.__main__ import parser as train

    parser = _parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            action.choices.update(train=train(), profile=profile(), bench=bench.parser())
    return parser


def _completion(args: argparse.Namespace) -> int:
    return completion.run(args, _whole_parser())


def _add_commands(commands: Any) -> None:
    demo = commands.add_parser("demo", help="the report's trainer and ours, timed in turn")
    add_shared_arguments(demo, config="report")
    demo.add_argument(
        "--after-config", metavar="FILE", help="config of our side (default: the same as --config)"
    )
    demo.add_argument(
        "--pairs",
        type=_pairs,
        default=20,
        help="timed steps of either side, at least 6 (default 20)",
    )
    demo.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="output folder (default runs/demo)"
    )
    demo.add_argument("--json", action="store_true", help="print JSON alone, not the tables")

    commands.add_parser("train", help="bars to a fitted model", add_help=False)

    export = commands.add_parser(
        "export", help="a fitted model as one file for torch.export or ONNX"
    )
    export.add_argument("model", type=Path, help="what train wrote with --out, or best.pt")
    export.add_argument("out", type=Path, help="file to write, .pt2 or .onnx")

    adopt.add_parser(commands)
    features.add_parser(commands)
    claims.add_parser(commands)
    compare.add_parser(commands)
    scaling.add_parser(commands)
    doctor.add_parser(commands)
    report.add_parser(commands)
    tune.add_parser(commands)
    warmup.add_parser(commands)
    completion.add_parser(commands)
    commands.add_parser("bench", help="the benchmark suite, from the source", add_help=False)
    commands.add_parser(
        "profile",
        help="where any trainer's time goes: phases, flame graph",
        add_help=False,
    )


def _pairs(text: str) -> int:
    value = positive(text)
    if value < 6:
        raise argparse.ArgumentTypeError(f"{value} pairs have no 95 % interval; give 6 or more")
    return value


def _demo(args: argparse.Namespace) -> int:
    from tfa_perf.config import load_config
    from tfa_perf.demo.run import run_demo

    before = load_config(args.config, args.overrides)
    after = load_config(args.after_config, args.overrides) if args.after_config else before
    return run_demo(
        before,
        after,
        bars=before.data.bars if args.bars is None else args.bars,
        device=args.device,
        pairs=args.pairs,
        out=args.out,
        as_json=args.json,
    )


def _export(args: argparse.Namespace) -> int:
    from tfa_perf.train.export import export_model

    export_model(args.model, args.out)
    print(f"wrote {args.out}")
    return 0


_COMMANDS = {
    "adopt": adopt.run,
    "demo": _demo,
    "export": _export,
    "claims": claims.run,
    "compare": compare.run,
    "completion": _completion,
    "doctor": doctor.run,
    "features": features.run,
    "report": report.run,
    "scaling": scaling.run,
    "tune": tune.run,
    "warmup": warmup.run,
}


def _input_errors() -> tuple[type[Exception], ...]:
    # Imported when something has gone wrong, so that --help needs no torch.
    from tfa_kernels import SpecError
    from tfa_perf.bench import BenchError
    from tfa_perf.claims.workload import ClaimsError
    from tfa_perf.config import ConfigError
    from tfa_perf.data.bars import BarsError
    from tfa_perf.data.split import SplitError
    from tfa_perf.demo.sides import SeveralSeriesError
    from tfa_perf.profile.comparison import NotComparableError
    from tfa_perf.profile.gate import ConditionError
    from tfa_perf.profile.run_file import RunFileError
    from tfa_perf.report.errors import ReportError
    from tfa_perf.train.checkpoint import CheckpointError
    from tfa_perf.train.devices import DeviceError
    from tfa_perf.train.export import ExportError
    from tfa_perf.universe.processes import UsageError

    return (
        BenchError,
        ClaimsError,
        ConfigError,
        SpecError,
        BarsError,
        SplitError,
        SeveralSeriesError,
        DeviceError,
        CheckpointError,
        ExportError,
        RunFileError,
        NotComparableError,
        ConditionError,
        ReportError,
        UsageError,
    )


def _failures() -> tuple[type[Exception], ...]:
    from tfa_perf.data.store_meta import StoreError
    from tfa_perf.demo.run import SampledRunError
    from tfa_perf.demo.sides import MismatchError
    from tfa_perf.universe.processes import ClusterError

    return (MismatchError, SampledRunError, StoreError, ClusterError, OSError)
