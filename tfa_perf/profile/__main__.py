"""``python -m tfa_perf.profile``: run a training program and show where its steps' time goes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfa_perf.config import ConfigError, load_config
from tfa_perf.profile.gpu_report import device_cells, show_device
from tfa_perf.profile.memory import MemrayMissing, check_memray, run_memory
from tfa_perf.profile.memory_report import show_memory
from tfa_perf.profile.page import write_page
from tfa_perf.profile.run import Run
from tfa_perf.profile.sampler import SAMPLERS, ProfileResult, run_profiled

PAGE_FILE = "flame.html"

_USAGE = """python -m tfa_perf.profile [options] -- script.py args...
       python -m tfa_perf.profile [options] -- -m package.module args...
       python -m tfa_perf.profile [options] --config FILE [trainer options]"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"tfa_perf.profile: {message} (--help shows the usage)", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m tfa_perf.profile", usage=_USAGE, description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write the results (default: profiles/TIME-NAME)",
    )
    parser.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="auto",
        help="auto: py-spy, or a sampler inside the process where py-spy cannot attach; "
        "none: phase timers alone (default: auto)",
    )
    parser.add_argument(
        "--rate", type=int, default=100, metavar="HZ", help="samples per second (default: 100)"
    )
    parser.add_argument(
        "--gpu-trace",
        type=int,
        nargs="?",
        const=10,
        default=0,
        metavar="N",
        help="trace N steps after warm-up on the GPU, kept out of the times (default: 10)",
    )
    parser.add_argument(
        "--memory",
        action="store_true",
        help="what the program holds in memory at its peak, through memray, instead of times",
    )
    trainer = parser.add_argument_group("profile the tfa-perf trainer")
    trainer.add_argument("--config", metavar="FILE", help="YAML file, or report or tuned")
    trainer.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="sets",
        help="change one key of the config, as train.batch_size=256",
    )
    trainer.add_argument(
        "--bars", metavar="SOURCE", help="CSV or Parquet file, sample, or synthetic:ROWS"
    )
    trainer.add_argument("--steps", type=int, metavar="N", help="stop after N optimizer steps")
    trainer.add_argument("--device", metavar="NAME", help="auto, cpu or cuda")
    return parser


def _trainer_command(options: argparse.Namespace) -> list[str]:
    command = ["-m", "tfa_perf", "train", "--config", options.config]
    for setting in options.sets:
        command += ["--set", setting]
    for name in ("bars", "steps", "device"):
        value = getattr(options, name)
        if value is not None:
            command += [f"--{name}", str(value)]
    return command


def _program_name(command: Sequence[str], config: str | None) -> str:
    if config is not None:
        return Path(config).stem
    if command[0] == "-m":
        return command[1].rsplit(".", 1)[-1]
    return Path(command[0]).stem


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Options and the command to run, as it would follow ``python``."""
    own, program = list(argv), []
    if "--" in own:
        split = own.index("--")
        own, program = own[:split], own[split + 1 :]
    parser = _parser()
    options = parser.parse_args(own)
    trainer = [f"--{n}" for n in ("bars", "steps", "device") if getattr(options, n) is not None]
    trainer += ["--set"] if options.sets else []
    options.settings = None
    if options.config is not None:
        if program:
            parser.error("give either --config or a program after --, not both")
        try:
            config = load_config(options.config, options.sets)
        except ConfigError as error:
            parser.error(str(error))
        bars = options.bars or config.data.bars
        if bars != "sample" and not bars.startswith("synthetic:") and not Path(bars).exists():
            parser.error(f"cannot find the bars {bars!r}; give a file, sample or synthetic:ROWS")
        options.settings = config.model_dump(mode="json")
        options.settings["data"]["bars"] = bars
        program = _trainer_command(options)
    elif trainer:
        parser.error(f"{trainer[0]} belongs to the trainer and needs --config")
    elif not program:
        parser.error("nothing to run; give a script after --, or --config FILE")
    elif program[0] == "-m":
        if len(program) < 2:
            parser.error("-m needs a module name after it")
    elif not Path(program[0]).exists():
        parser.error(f"cannot find the script {program[0]!r}; check the path")
    if not 1 <= options.rate <= 1000:
        parser.error(f"--rate is {options.rate}; give 1 to 1000 samples per second")
    if not 0 <= options.gpu_trace <= 1000:
        parser.error(f"--gpu-trace is {options.gpu_trace}; give 0 to 1000 steps")
    if options.memory and options.gpu_trace:
        parser.error("--memory gives no times, so it cannot go with --gpu-trace; run it by itself")
    if options.memory:
        try:
            check_memray()
        except MemrayMissing as error:
            parser.error(str(error))
    if options.out is None:
        name = _program_name(program, options.config)
        options.out = _unused(Path("profiles") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out} is a file; give a folder")
    return options, program


def _unused(folder: Path) -> Path:
    """The folder, or its name with the first number behind it that no other run has taken."""
    taken = (folder.with_name(f"{folder.name}-{n}") for n in count(2))
    return next(path for path in chain([folder], taken) if not path.exists())


def _show(console: Console, result: ProfileResult, run: Run, files: Sequence[Path]) -> None:
    if result.times is not None:
        table = Table(title=f"{run.label}: {run.ms_per_step:.3f} {run.unit}", title_justify="left")
        per_step = "/step" if run.steps else ""
        on_device = any(row.device_ms is not None for row in run.rows)
        device = (f"device ms{per_step}",) if on_device else ()
        headings = ("phase", run.unit, "share %", *device, f"calls{per_step}", "stacks %")
        for heading in headings:
            table.add_column(heading, justify="left" if heading == "phase" else "right")
        for row in run.rows:
            stacks = "" if row.stack_share is None else f"{100 * row.stack_share:.1f}"
            table.add_row(
                escape(row.phase),
                f"{row.ms:.3f}",
                f"{100 * row.share:.1f}",
                *device_cells(row.device_ms, on_device),
                f"{row.calls:.2f}",
                stacks,
            )
        console.print(table)
    console.print(run.note, soft_wrap=True, markup=False)
    for warning in run.warnings:
        console.print(f"warning: {warning}", soft_wrap=True, markup=False)
    if result.times is not None:
        show_device(console, result.times, result.run.gpu_trace)
    console.print(f"wall clock {result.wall_s:.2f} s, exit code {result.exit_code}")
    console.print(f"stacks: {result.sampler}, {escape(result.reason)}", soft_wrap=True)
    for file in files:
        console.print(f"  {file}", soft_wrap=True, highlight=False, markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the program's exit code."""
    options, command = _parse(sys.argv[1:] if argv is None else argv)
    # The program owns stdout: it may be piped on.
    console = Console(stderr=True)
    try:
        if options.memory:
            name = _program_name(command, options.config)
            profile = run_memory(command, options.out, name=name)
            show_memory(console, profile, name)
            return profile.exit_code
        result = run_profiled(
            command,
            options.out,
            sampler=options.sampler,
            rate=options.rate,
            gpu_trace=options.gpu_trace,
            name=_program_name(command, options.config),
            config=options.settings,
        )
        run = Run.of(result.run)
        page = write_page(options.out / PAGE_FILE, [run], title=f"Where a step of {run.label} goes")
    except OSError as error:
        console.print(f"tfa_perf.profile: cannot write to {options.out}: {error}", markup=False)
        return 1
    _show(console, result, run, (page, *result.files))
    return result.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
