"""The ``tfa-perf`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tfa_perf import __version__

__all__ = ["main"]

_EPILOG = """\
exit codes: 0 done, 1 failed or a --fail-if condition met, 2 wrong usage, config or input,
130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ["profile"]:
        from tfa_perf.profile.__main__ import main as profile

        return profile(argv[1:])
    args = _parser().parse_args(argv)
    try:
        return _COMMANDS[args.command](args)
    except KeyboardInterrupt:
        print("tfa-perf: interrupted", file=sys.stderr)
        return 130
    except _input_errors() as error:
        print(f"tfa-perf: error: {error}", file=sys.stderr)
        return 2
    except _failures() as error:
        print(f"tfa-perf: failed: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tfa-perf",
        description="Find, time and remove the bottlenecks of PyTorch time-series trainers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tfa-perf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="the report's trainer and ours side by side: phase table and flame graph"
    )
    _shared_arguments(demo, config="report")
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

    train = commands.add_parser("train", help="bars to a fitted model")
    _shared_arguments(train, config="tuned")
    train.add_argument("--steps", type=_positive, help="stop after this many optimizer steps")
    train.add_argument("--out", type=Path, help="file to write the model to")
    train.add_argument(
        "--checkpoints", type=Path, metavar="DIR", help="folder for last.pt and best.pt"
    )
    train.add_argument(
        "--resume", action="store_true", help="go on from last.pt in the --checkpoints folder"
    )
    train.add_argument("--log", type=Path, metavar="FILE", help="CSV file, one row a validation")
    train.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="run the model through torch.compile (default: the config's train.compile)",
    )
    train.add_argument(
        "--graph",
        action=argparse.BooleanOptionalAction,
        help="replay one CUDA graph a step (default: the config's train.graph)",
    )

    export = commands.add_parser(
        "export", help="a fitted model and its scaler as one file for torch.export or ONNX"
    )
    export.add_argument("model", type=Path, help="what train wrote with --out, or best.pt")
    export.add_argument("out", type=Path, help="file to write, .pt2 or .onnx")

    compare = commands.add_parser(
        "compare",
        help="two profiled runs: what changed, phase by phase and frame by frame",
        epilog="exit codes: 0 compared, 1 a --fail-if condition is met, 2 wrong usage, no run, or "
        "runs that are not comparable",
    )
    compare.add_argument("before", type=Path, help="folder of the run before")
    compare.add_argument("after", type=Path, help="folder of the run after")
    for side in ("before", "after"):
        compare.add_argument(
            f"--more-{side}",
            type=Path,
            nargs="+",
            default=[],
            metavar="DIR",
            help=f"repeats of the run {side}: with 3 runs or more of each the intervals cover what "
            "the machine does between runs",
        )
    compare.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="page to write (default: AFTER/against-BEFORE.html)",
    )
    compare.add_argument(
        "--changed",
        action="append",
        default=[],
        metavar="KEY",
        help="what was changed on purpose and may differ, as train.batch_size or torch",
    )
    compare.add_argument(
        "--force", action="store_true", help="compare whatever differs, and say what does"
    )
    compare.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help="exit with 1 when it holds of the run after: 'data_wait>5%%' (share of the step), "
        "'step_ms>12', 'forward_ms>3', or 'step_ms>+10%%' (growth that is detected)",
    )
    compare.add_argument("--json", action="store_true", help="print JSON")

    commands.add_parser(
        "profile",
        help="where a trainer's time goes: phase timers and a flame graph",
        add_help=False,
    )
    return parser


def _shared_arguments(parser: argparse.ArgumentParser, *, config: str) -> None:
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
    parser.add_argument(
        "--bars",
        metavar="SOURCE",
        help="CSV or Parquet file, sample, or synthetic:ROWS (default: the config's)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return value


def _pairs(text: str) -> int:
    value = _positive(text)
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
        bars=args.bars or before.data.bars,
        device=args.device,
        pairs=args.pairs,
        out=args.out,
    )


def _train(args: argparse.Namespace) -> int:
    from tfa_perf.config import load_config
    from tfa_perf.data.bars import load_bars
    from tfa_perf.train.run import DeviceError, pick_device, train

    switches = [
        f"train.{name}={str(value).lower()}"
        for name in ("compile", "graph")
        if (value := getattr(args, name)) is not None
    ]
    config = load_config(args.config, [*args.overrides, *switches])
    device = pick_device(args.device)
    if config.train.graph and device.type != "cuda":
        raise DeviceError(f"graph: a CUDA graph needs a CUDA device, this run is on {device}")
    train(
        config,
        load_bars(args.bars or config.data.bars),
        device,
        max_steps=args.steps,
        out=args.out,
        checkpoints=args.checkpoints,
        resume=args.resume,
        log=args.log,
    )
    return 0


def _export(args: argparse.Namespace) -> int:
    from tfa_perf.train.export import export_model

    export_model(args.model, args.out)
    print(f"wrote {args.out}")
    return 0


def _compare(args: argparse.Namespace) -> int:
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


_COMMANDS = {"demo": _demo, "train": _train, "export": _export, "compare": _compare}


def _input_errors() -> tuple[type[Exception], ...]:
    # Imported when something has gone wrong, so that --help needs no torch.
    from tfa_kernels import SpecError
    from tfa_perf.config import ConfigError
    from tfa_perf.data.bars import BarsError
    from tfa_perf.data.split import SplitError
    from tfa_perf.demo.sides import SeveralSeriesError
    from tfa_perf.profile.comparison import NotComparableError
    from tfa_perf.profile.gate import ConditionError
    from tfa_perf.profile.run_file import RunFileError
    from tfa_perf.train.checkpoint import CheckpointError
    from tfa_perf.train.csv_log import LogError
    from tfa_perf.train.export import ExportError
    from tfa_perf.train.run import DeviceError

    return (
        ConfigError,
        SpecError,
        BarsError,
        SplitError,
        SeveralSeriesError,
        DeviceError,
        CheckpointError,
        LogError,
        ExportError,
        RunFileError,
        NotComparableError,
        ConditionError,
    )


def _failures() -> tuple[type[Exception], ...]:
    from tfa_perf.demo.run import SampledRunError
    from tfa_perf.demo.sides import MismatchError

    return (MismatchError, SampledRunError, OSError)
