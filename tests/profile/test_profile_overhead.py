"""The profiler's own cost: blocks of steps with and without it, and nothing lost by them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfa_perf.profile.overhead import FIRST_STEP, MIN_PAIRS, PAIRS, overhead_note
from tfa_perf.profile.sampler import ProfileResult, run_profiled
from tfa_perf.profile.steps import OverheadBlocks

# Steps of 15 ms or more: blocks of at most 7 steps.
TRAIN = """
import sys, time, torch
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(int(sys.argv[1])):
    optimizer.zero_grad()
    loss = model(torch.ones(2, 4)).sum()
    time.sleep(0.015)
    loss.backward()
    optimizer.step()
    if len(sys.argv) > 2 and step == int(sys.argv[2]):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
"""


SAMPLERS: tuple[Any, ...] = ("pyspy", "inprocess", "none")


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory,
    environment: dict[str, str],
    two_at_a_time: Callable[..., dict[str, ProfileResult]],
) -> dict[str, ProfileResult]:
    """The script's 360 steps under each sampler."""
    folder = tmp_path_factory.mktemp("overhead")
    path = folder / "script.py"
    path.write_text(TRAIN)

    def run(sampler: Any) -> ProfileResult:
        out = folder / sampler
        return run_profiled([str(path), "360"], out, sampler=sampler, env=environment)

    return two_at_a_time(run, SAMPLERS)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_blocks_alternate_and_every_step_is_counted(
    sampler: str, results: dict[str, ProfileResult]
) -> None:
    result = results[sampler]
    times = result.times
    assert result.sampler == sampler
    assert times is not None
    blocks = times.overhead
    assert blocks is not None
    assert 1 <= blocks.steps <= 7
    assert len(blocks.profiled_ns) == len(blocks.plain_ns) == PAIRS
    assert all(ns >= blocks.steps * 15e6 for ns in (*blocks.profiled_ns, *blocks.plain_ns))
    plain = PAIRS * blocks.steps
    assert times.steps == 360
    assert times.measured_steps == 360 - 5 - plain
    assert times.whole.calls["optimizer"] == times.whole.calls["forward"] == 360 - plain
    assert sum(times.whole.phases.values()) == times.whole.wall_s
    # Plain blocks are in no phase and not in the wall clock of the phases.
    assert times.whole.wall_s < result.wall_s - sum(blocks.plain_ns) / 1e9
    assert not any("mark_catch_up" in frame for stack in result.stacks for frame in stack.frames)


def test_short_runs_say_that_they_are(
    script: Callable[[str], Path], tmp_path: Path, profile_command: Callable[..., Any]
) -> None:
    gate = ("--fail-if", "forward>99.9%", "--fail-if", "step_ms>9999")
    done = profile_command("--sampler", "none", *gate, "--", str(script(TRAIN)), "60")
    assert done.returncode == 0, done.stderr
    assert "step_ms>9999: not met, step takes " in done.stderr
    assert "too short to tell" in done.stderr
    times = json.loads((tmp_path / "out" / "run.json").read_text())["times"]
    assert times["steps"] == 60
    assert len(times["overhead"]["plain_ns"]) < MIN_PAIRS


def test_death_while_pyspy_is_halted_leaves_its_stacks(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    # Blocks of 4 to 7 steps: on, off, off. This step is in one without.
    result = run_profiled(
        [str(script(TRAIN)), "360", str(FIRST_STEP + 8)], tmp_path / "out", env=environment
    )
    assert result.exit_code == 137
    assert result.stacks, os.listdir(tmp_path / "out")


def test_note_is_the_median_of_the_pairs_with_its_interval() -> None:
    plain = [1000] * 20
    profiled = [1000 + 10 * (i + 1) for i in range(20)]
    note = overhead_note(OverheadBlocks(3, profiled, plain))
    assert "costs +10.5 % [+6.0, +15.0] of a step" in note
    assert "20 pairs of blocks of 3 steps" in note
    assert f"0 of {MIN_PAIRS} pairs" in overhead_note(None)
