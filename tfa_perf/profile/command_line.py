"""The arguments of ``python -m tfa_perf.profile``."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import NoReturn

from tfa_perf.config import ConfigError, load_config
from tfa_perf.profile.gate import ConditionError, level
from tfa_perf.profile.launch import SAMPLERS
from tfa_perf.profile.memory import MemrayMissing, check_memray
from tfa_perf.profile.pyspy import RATE

__all__ = ["arguments", "parse", "program_name"]

_INTERPRETER = re.compile(r"python[\d.]*(\.exe)?")
_DESCRIPTION = "Run a training program and show where its steps' time goes."
_USAGE = """python -m tfa_perf.profile [options] -- script.py args...
       python -m tfa_perf.profile [options] -- -m package.module args...
       python -m tfa_perf.profile [options] --config FILE [trainer options]
       python -m tfa_perf.profile [options] --pid PID [--seconds N]"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"tfa_perf.profile: {message} (--help shows the usage)", file=sys.stderr)
        raise SystemExit(2)


def arguments() -> argparse.ArgumentParser:
    """The arguments, but for the program after ``--``."""
    return _parser()


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m tfa_perf.profile",
        usage=_USAGE,
        description=_DESCRIPTION,
        allow_abbrev=False,
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
        "--rate", type=int, default=RATE, metavar="HZ", help=f"samples per second (default: {RATE})"
    )
    parser.add_argument(
        "--text",
        action="store_true",
        help="print the whole result: phase bars, the ten hottest paths, and what dominates",
    )
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help="exit with 1 when it holds, as 'data_wait>5%%' (share of the step) or 'step_ms>12'; "
        "with 2 when no steps were measured; a program's own exit code other than 0 comes first",
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
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the phase table as JSON alone; the program's own output goes to stderr",
    )
    running = parser.add_argument_group("profile a running process (stacks only)")
    running.add_argument("--pid", type=int, metavar="PID", help="the process to sample")
    running.add_argument(
        "--seconds", type=float, metavar="N", help="for how long (default: until Ctrl-C)"
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


def program_name(command: Sequence[str], config: str | None) -> str:
    if config is not None:
        return Path(config).stem
    if command[:2] == ["-m", "torch.distributed.run"]:
        scripts = (Path(argument).stem for argument in command[2:] if argument.endswith(".py"))
        return next(scripts, "torchrun")
    if command[0] == "-m":
        return command[1].rsplit(".", 1)[-1]
    return Path(command[0]).stem


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
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
    if options.seconds is not None and options.pid is None:
        parser.error("--seconds belongs to --pid; a program runs to its own end")
    if options.pid is not None:
        _check_running(parser, options, program or trainer)
    elif options.config is not None:
        if program:
            parser.error("give either --config or a program after --, not both")
        try:
            config = load_config(options.config, options.sets)
        except ConfigError as error:
            parser.error(str(error))
        bars = config.data.bars if options.bars is None else options.bars
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
    elif _INTERPRETER.fullmatch(Path(program[0]).name):
        parser.error(f"leave {program[0]!r} out: what follows -- is run by this interpreter")
    elif not Path(program[0]).exists():
        parser.error(_no_script(program[0]))
    if not 1 <= options.rate <= 1000:
        parser.error(f"--rate is {options.rate}; give 1 to 1000 samples per second")
    if not 0 <= options.gpu_trace <= 1000:
        parser.error(f"--gpu-trace is {options.gpu_trace}; give 0 to 1000 steps")
    if options.memory:
        _check_memory(parser, options)
    try:
        options.fail_if = [level(text) for text in options.fail_if]
    except ConditionError as error:
        parser.error(str(error))
    if options.out is None:
        running = options.pid is not None
        name = f"pid-{options.pid}" if running else program_name(program, options.config)
        options.out = _unused(Path("profiles") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out} is a file; give a folder")
    return options, program


def _no_script(name: str) -> str:
    if name == "torchrun":
        return "torchrun is no script; give -- -m torch.distributed.run with the same arguments"
    return f"cannot find the script {name!r}; check the path, or give a module as -- -m NAME"


def _check_memory(parser: _Parser, options: argparse.Namespace) -> None:
    for name, given in (
        ("--gpu-trace", options.gpu_trace),
        ("--pid", options.pid),
        ("--text", options.text),
        ("--fail-if", options.fail_if),
        ("--json", options.json),
    ):
        if given:
            parser.error(f"--memory gives no times, so it cannot go with {name}; run it by itself")
    try:
        check_memray()
    except MemrayMissing as error:
        parser.error(str(error))


def _check_running(parser: _Parser, options: argparse.Namespace, other: Sequence[str]) -> None:
    if other or options.config is not None:
        parser.error("give either --pid or something to run, not both")
    if options.sampler in ("inprocess", "none"):
        parser.error(f"--sampler {options.sampler}: a running process is sampled by py-spy alone")
    if options.pid < 1:
        parser.error(f"--pid is {options.pid}; give a process id, 1 or more")
    if options.seconds is not None and not 0 < options.seconds < float("inf"):
        parser.error(f"--seconds is {options.seconds}; give a number above 0")


def _unused(folder: Path) -> Path:
    """The folder, or its name with the first number behind it that no other run has taken."""
    taken = (folder.with_name(f"{folder.name}-{n}") for n in count(2))
    return next(path for path in chain([folder], taken) if not path.exists())
