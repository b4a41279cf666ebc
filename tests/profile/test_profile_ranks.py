"""torchrun's ranks are profiled together, each into a folder of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tfa_perf.profile.rank_table import slowest, told_of_waits
from tfa_perf.profile.run import Run
from tfa_perf.profile.run_file import read_run
from tfa_perf.profile.samples import MAIN
from tfa_perf.profile.steps import PhaseRow

SCRIPT = Path(__file__).parent / "scripts" / "train_ranks.py"


@pytest.mark.parametrize("sampler", ["pyspy", "inprocess"])
def test_ranks_of_torchrun(
    sampler: str, tmp_path: Path, profile_command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = profile_command(
        "--sampler", sampler, "--rate", "200", "--text", "--fail-if", "forward>60%", "--",
        "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29631",
        str(SCRIPT),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout == "trained\n"
    assert "rank 1, slowest" in done.stderr
    for rank, sign in ((0, "not met"), (1, "met")):
        assert f"train_ranks rank {rank}: forward>60%: {sign}" in done.stderr
    # The text and the picture are of the slowest, and the page has it first.
    assert "\ntrain_ranks rank 1: " in done.stderr
    assert "rank 1" in (tmp_path / "out" / "flame.svg").read_text()
    for rank in (0, 1):
        run = read_run(tmp_path / "out" / f"rank{rank}")
        assert run.name.endswith(f"rank {rank}")
        times = run.times
        assert times is not None
        assert times.steps == 30
        assert times.measured.calls["forward"] == times.measured.calls["backward"] == 25
        assert sum(times.whole.phases.values()) == times.whole.wall_s
        assert times.overhead is None
        inside = [s for s in run.samples.unpacked() if s.thread == MAIN and s.frames[0] != "other"]
        # Rank 1's backward, a few ms, may fall between samples; rank 0 waits in its own.
        long = {"forward", "backward"} if rank == 0 else {"forward"}
        assert long <= {s.frames[0] for s in inside}
        assert (times.measured.phases["forward"] / 25 >= 0.06) == (rank == 1)
    page = (tmp_path / "out" / "flame.html").read_text()
    assert "rank 0" in page
    assert "rank 1 (slowest)" in page


def test_slowest_is_the_one_that_the_others_wait_for() -> None:
    def run(forward: float, backward: float, steps: int = 10) -> Run:
        rows = [
            PhaseRow("forward", forward, 0, 1, None),
            PhaseRow("backward", backward, 0, 1, None),
        ]
        return Run("run rank 0", [], steps, forward + backward, rows)

    runs = [run(5, 20), run(15, 10), run(6, 19)]
    assert slowest(runs) == 1
    assert slowest(runs[:1]) is None
    assert slowest([*runs, replace(runs[0], steps=0)]) is None


def test_a_rank_that_waits_in_backward_is_told_for_which_one() -> None:
    def run(rank: int, backward: float) -> Run:
        rows = [
            PhaseRow("forward", 30 - backward, 0, 1, None),
            PhaseRow("backward", backward, 0, 1, None),
        ]
        return Run(f"train rank {rank}", [], 10, 30.0, rows, verdict="the model itself")

    waiting, slow, close = told_of_waits([run(0, 20), run(1, 5), run(2, 9)])
    assert waiting.verdict.startswith("backward is 50 % of the step longer than on rank 1")
    assert [slow.verdict, close.verdict] == ["the model itself"] * 2
