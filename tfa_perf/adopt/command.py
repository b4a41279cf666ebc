"""``tfa-perf adopt``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from tfa_perf.arguments import positive

if TYPE_CHECKING:
    from tfa_perf.adopt.advice import Report

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to ``commands``, an ``add_subparsers()``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "adopt",
        help="which of our pieces would pay in your trainer",
        usage="tfa-perf adopt [--steps N] [--seconds S] [--json] train.py [args...]",
        description="Runs the trainer under phase timers for a few steps and says which of our "
        "pieces would pay, by how much at most, and the lines to change. It edits nothing. What "
        "the trainer prints goes to stderr.",
        epilog="exit codes: 0 judged, 1 the trainer failed or no steps were measured, 2 wrong "
        "usage, 130 interrupted, 143 terminated",
    )
    parser.add_argument(
        "--steps", type=positive, default=200, metavar="N",
        help="end the trainer after N optimizer steps (default 200)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=positive, default=60, metavar="S",
        help="or S seconds after its first step, once 3 are done (default 60)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.add_argument(
        "program",
        nargs=argparse.REMAINDER,
        help="train.py and its arguments, or -- -m package.module and its arguments",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Profile, judge, print; 1 where there is nothing to judge."""
    # Imported here, so that --help needs none of it.
    import json
    from dataclasses import asdict

    from tfa_perf.json_output import json_alone

    with json_alone(args.json) as document:
        code, report = _judged(args)
        if report is not None:
            json.dump(asdict(report), document, indent=1)
    if report is not None and not args.json:
        _print(report)
    return code


def _judged(args: argparse.Namespace) -> tuple[int, Report | None]:
    """The exit code and the report; without one, why not is on stderr."""
    from pathlib import Path

    from tfa_perf.adopt.advice import advise
    from tfa_perf.profile.sampler import run_profiled

    program = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not program or program == ["-m"]:
        return _refuse("nothing to run; give a script, as tfa-perf adopt train.py", 2)
    if program[0] != "-m" and not Path(program[0]).is_file():
        return _refuse(f"cannot find the script {program[0]!r}; check the path", 2)
    with tempfile.TemporaryDirectory(prefix="tfa-perf-adopt-") as folder:
        result = run_profiled(
            program, folder, sampler="none", gpu_trace=10, max_steps=args.steps,
            max_seconds=args.seconds, stdout=sys.stderr,
        )  # fmt: skip
    name = " ".join(program)
    if result.exit_code in (130, 143):
        return _refuse("interrupted", result.exit_code)
    if result.exit_code:
        return _refuse(f"{name} failed with exit code {result.exit_code}; mend it first", 1)
    # The ranks of torchrun do the same work.
    measured = next((rank for rank in result.ranks if rank.times), result)
    if measured.times is None or not measured.times.measured_steps:
        steps = 0 if measured.times is None else measured.times.steps
        return _refuse(
            f"{name} ran, but {steps} optimizer steps are too few to measure: 2 or more of a torch "
            "optimizer's step(), in the program's main thread, are needed",
            1,
        )
    return 0, advise(measured.run)


def _refuse(message: str, code: int) -> tuple[int, None]:
    print(f"tfa-perf adopt: {message}", file=sys.stderr)
    return code, None


def _print(report: Report) -> None:
    print(
        f"{' '.join(report.command)}: {report.measured_steps} steps measured on a "
        f"{report.device.upper()}, {report.ms_per_step:.3f} ms each"
    )
    phases = ", ".join(f"{name} {share:.1f} %" for name, share in report.phases.items())
    print(f"phases: {phases}")
    if not report.advice:
        print("none of our pieces would pay")
    for each in report.advice:
        parts = ", ".join(f"{name} {share:.1f} %" for name, share in each.phases.items())
        print(f"\n{each.piece}: {parts} of the step, at most {each.at_most:.2f}x if it went away")
        for line in each.lines:
            print(f"    {line}")
        if each.example:
            print(f"    whole: {each.example}")
    if len(report.advice) > 1:
        print(f"\nall of it together: at most {report.at_most_together:.2f}x")
    if report.note:
        print(f"\n{report.note}")
