"""``tfa-perf demo``: time both trainers in turn, then sample their stacks, and show the two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tfa_kernels import load_spec
from tfa_perf.config import Config
from tfa_perf.data.bars import Bars, load_bars
from tfa_perf.demo.alternate import Options
from tfa_perf.demo.sides import build_sides
from tfa_perf.demo.table import once_table, step_table, tables_json
from tfa_perf.demo.timing import StepTimes, time_once, time_steps
from tfa_perf.interrupts import NUMBERS, Interrupted
from tfa_perf.json_output import json_alone
from tfa_perf.profile.flame_svg import write_svg
from tfa_perf.profile.machine import machine
from tfa_perf.profile.page import write_page
from tfa_perf.profile.run import Run
from tfa_perf.profile.sampler import ProfileResult, run_profiled
from tfa_perf.profile.stacks import Stack, phase_shares
from tfa_perf.profile.steps import phase_rows, sum_laps
from tfa_perf.train.devices import pick_device

__all__ = ["SampledRunError", "run_demo"]

_WARMUP = 2
# Enough stacks of either side in a short run, the profiler's own warm-up of a few steps included;
# what they cost its steps is in no table.
_RATE = 97
_SAMPLED_S = 20.0
_SAMPLED_STEPS = (8, 500)
_ONCE_PAIRS = 20
_LARGE_TABLE_ROWS = 100_000
# A frame of the loop tells which side a stack belongs to.
_LOOPS = {"before": "tfa_perf/baseline/loop.py", "after": "tfa_perf/train/step.py"}


class SampledRunError(RuntimeError):
    """The run that stacks are sampled from failed."""


def run_demo(
    before: Config,
    after: Config,
    *,
    bars: str,
    device: str,
    pairs: int,
    out: Path,
    as_json: bool = False,
) -> int:
    """Compare the report's trainer under ``before`` with ours under ``after``; 0 when done.

    Prints the phase table and writes ``flame.html`` and the profile's files into ``out``.

    ``as_json`` prints the tables' figures as JSON, and the rest to stderr.

    Raises the errors of ``load_bars``, ``build_sides`` and ``pick_device``.
    """
    with json_alone(as_json) as document:
        found = _compare(before, after, bars=bars, device=device, pairs=pairs, out=out)
        json.dump(found, document, indent=1)
    return 0


def _compare(
    before: Config, after: Config, *, bars: str, device: str, pairs: int, out: Path
) -> dict[str, Any]:
    console = Console()
    where = pick_device(device)
    loaded = load_bars(bars)
    out.mkdir(parents=True, exist_ok=True)
    console.print(f"bars: {loaded!r}", highlight=False)
    console.print(f"machine: {_machine()}", highlight=False)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        # A refresh from the bar's own thread would land inside a timed step.
        auto_refresh=False,
        transient=True,
    ) as progress:
        bar = progress.add_task("compiling, then features and caches", total=_WARMUP + pairs)

        def advance() -> None:
            progress.update(bar, description="training, step by step in turn", advance=1)
            progress.refresh()

        progress.refresh()
        spec = load_spec(before.data.features)
        once = time_once(loaded, spec, out / "cache", pairs=_once_pairs(loaded))
        sides = build_sides(loaded, before, after, where, steps=_WARMUP + pairs)
        with (out / "before.log").open("w", encoding="utf-8") as log:
            times = time_steps(
                sides,
                where,
                pairs=pairs,
                warmup=_WARMUP,
                log=log,
                advance=advance,
            )
    with console.status("training again, stacks sampled"):
        profile = _sample(before, after, bars, str(where), out, _sampled_steps(times))
    runs = [_run(label, side, profile) for label, side in zip(_LOOPS, times, strict=True)]
    page = write_page(out / "flame.html", runs, title="One training step, before and after")
    pictures = [write_svg(out / f"flame-{run.label}.svg", run) for run in runs]
    console.print(once_table(once))
    console.print(step_table(*times))
    console.print(
        f"{pairs} steps of either side in turn, after {_WARMUP} of warm-up. ms are means, which "
        f"add up; ratios are medians over the pairs. Stacks: {profile.sampler}, {profile.reason}.",
        highlight=False,
    )
    for file in (page, *pictures, *profile.files):
        console.print(f"wrote {file}", highlight=False, soft_wrap=True)
    return {
        "machine": machine({}),
        "pairs": pairs,
        **tables_json(once, *times),
        "files": [str(file) for file in (page, *pictures, *profile.files)],
    }


def _once_pairs(bars: Bars) -> int:
    # Fewer on a large table keep the demo short; 6 pairs are the fewest with a 95 % interval.
    return _ONCE_PAIRS if len(bars) <= _LARGE_TABLE_ROWS else 6


def _sampled_steps(times: tuple[StepTimes, StepTimes]) -> int:
    """Steps of either side that take about _SAMPLED_S together."""
    pair_s = sum(lap.wall_s for side in times for lap in side.laps) / len(times[0].laps)
    fewest, most = _SAMPLED_STEPS
    return min(max(round(_SAMPLED_S / pair_s), fewest), most)


def _sample(
    before: Config, after: Config, bars: str, device: str, out: Path, steps: int
) -> ProfileResult:
    options = Options(
        before=before,
        after=after,
        bars=bars,
        device=device,
        steps=steps,
        log=out / "sampled.log",
    )
    command = ["-m", "tfa_perf.demo.alternate", options.model_dump_json()]
    profile = run_profiled(command, out, rate=_RATE)
    if profile.exit_code - 128 in NUMBERS:
        raise Interrupted(profile.exit_code - 128)
    if profile.exit_code:
        raise SampledRunError(
            f"the sampled run ended with exit code {profile.exit_code}; its errors are above"
        )
    return profile


def _run(label: str, times: StepTimes, profile: ProfileResult) -> Run:
    stacks = [
        stack for whole in profile.stacks if (stack := _below(_LOOPS[label], whole)) is not None
    ]
    lap = sum_laps(times.laps)
    steps = len(times.laps)
    return Run(
        label=label,
        stacks=stacks,
        steps=steps,
        ms_per_step=1e3 * lap.wall_s / steps,
        rows=phase_rows(lap, steps, phase_shares(stacks)),
        detail=f"{steps} timed steps · stacks: {profile.sampler} · {_machine()}",
        rate=profile.rate,
    )


def _below(loop: str, stack: Stack) -> Stack | None:
    """The stack's phase and its frames from the loop on; None where the loop is not in it."""
    for depth, frame in enumerate(stack.frames):
        if loop in frame:
            return Stack(stack.thread, (stack.frames[0], *stack.frames[depth:]), stack.weight)
    return None


def _machine() -> str:
    return " · ".join(f"{key} {value}" for key, value in machine({}).items())
