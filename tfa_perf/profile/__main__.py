"""``python -m tfa_perf.profile``: run a training program and show where its steps' time goes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from tfa_perf.interrupts import exit_code, interruptible
from tfa_perf.json_output import json_alone
from tfa_perf.profile.atomic import write_each
from tfa_perf.profile.attach import AttachError
from tfa_perf.profile.command_line import parse, program_name
from tfa_perf.profile.flame_svg import write_svg
from tfa_perf.profile.memory import run_memory
from tfa_perf.profile.memory_report import show_memory
from tfa_perf.profile.page import write_page
from tfa_perf.profile.rank_table import show_ranks, slowest, told_of_waits
from tfa_perf.profile.run import Run
from tfa_perf.profile.sampler import ProfileResult, profile_running, run_profiled
from tfa_perf.profile.show import show_conditions, show_end, show_table
from tfa_perf.profile.text import print_text

PAGE_FILE = "flame.html"
PICTURE_FILE = "flame.svg"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the program's exit code, or a gate's where that is 0."""
    options, command = parse(sys.argv[1:] if argv is None else argv)
    # The program owns stdout: it may be piped on.
    console = Console(stderr=True)
    try:
        with interruptible(), json_alone(options.json) as document:
            return _run(console, options, command, document)
    except KeyboardInterrupt as error:
        console.print("tfa_perf.profile: interrupted")
        return exit_code(error)


def _run(
    console: Console, options: argparse.Namespace, command: Sequence[str], document: TextIO
) -> int:
    try:
        if options.memory:
            return _profile_memory(console, options, command)
        result = _profile(options, command)
    except AttachError as error:
        console.print(f"tfa_perf.profile: {error}", markup=False, soft_wrap=True)
        return 2
    except OSError as error:
        where = error.filename or options.out
        text = f"tfa_perf.profile: cannot write {where}: {error.strerror or error}"
        console.print(text, markup=False, soft_wrap=True)
        return 1
    files, problems = list(result.files), list(result.problems)
    for rank in result.ranks:
        files += rank.files
        problems += rank.problems
    runs = told_of_waits([Run.of(rank.run) for rank in result.ranks]) or [Run.of(result.run)]
    # One picture and one text show one rank: the one that the others wait for.
    shown = runs[slowest(runs) or 0]
    title = f"Where a step of {result.run.name} goes"
    writers: list[tuple[str, Callable[[Path], Path]]] = [
        (PICTURE_FILE, lambda path: write_svg(path, shown)),
        (PAGE_FILE, lambda path: write_page(path, runs, title=title, selector=len(runs) > 1)),
    ]
    written, unwritten = write_each((options.out / name, write) for name, write in writers)
    files = [*reversed(written), *files]
    problems += unwritten
    if result.ranks:
        show_ranks(console, runs)
    if options.text:
        print_text(console, shown)
    elif not result.ranks:
        show_table(console, shown)
    show_end(console, result, files, attached=options.pid is not None)
    for problem in problems:
        console.print(f"tfa_perf.profile: {problem}", markup=False, soft_wrap=True)
    json.dump(
        {
            "runs": [_figures(run) for run in runs],
            "exit_code": result.exit_code,
            "files": [str(file) for file in files],
        },
        document,
        indent=1,
    )
    return result.exit_code or show_conditions(console, runs, options.fail_if)


def _figures(run: Run) -> dict[str, Any]:
    return {
        "name": run.label,
        "steps": run.steps,
        "ms": run.ms_per_step,
        "unit": run.unit,
        "phases": [asdict(row) for row in run.rows],
        "verdict": run.verdict,
    }


def _profile_memory(console: Console, options: argparse.Namespace, command: Sequence[str]) -> int:
    name = program_name(command, options.config)
    found = run_memory(command, options.out, name=name)
    show_memory(console, found, name)
    return found.exit_code


def _profile(options: argparse.Namespace, command: Sequence[str]) -> ProfileResult:
    if options.pid is not None:
        return profile_running(options.pid, options.out, rate=options.rate, seconds=options.seconds)
    return run_profiled(
        command,
        options.out,
        sampler=options.sampler,
        rate=options.rate,
        gpu_trace=options.gpu_trace,
        name=program_name(command, options.config),
        config=options.settings,
    )


if __name__ == "__main__":
    raise SystemExit(main())
