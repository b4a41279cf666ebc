"""The user's phases in DataLoader workers, nested, on a thread and left by an exception."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tfa_perf.profile.laps import DATALOADER_WORKERS
from tfa_perf.profile.sampler import ProfileResult, run_profiled

SCRIPT = Path(__file__).parent / "scripts" / "train_workers.py"
# What the 24 rows and the thread sleep in each phase, in seconds.
SLEEPS = {"decode": 24 * 0.01, "augment": 24 * 0.02, "lookup": 24 * 0.002}


# fork is unsafe with threads on macOS.
METHODS = ("spawn",) if sys.platform == "darwin" else ("fork", "spawn")


class Done(NamedTuple):
    result: ProfileResult
    err: str


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory,
    environment: dict[str, str],
    two_at_a_time: Callable[..., dict[str, Done]],
) -> dict[str, Done]:
    """The script's epoch with two workers of each kind, and without."""
    folder = tmp_path_factory.mktemp("workers")

    def run(method: str) -> Done:
        workers, sampler = ("0", "none") if method == "none" else ("2", "auto")
        with (folder / f"{method}.err").open("w") as err:
            result = run_profiled(
                [str(SCRIPT), method, workers], folder / method, sampler=sampler,  # type: ignore[arg-type]
                rate=200, env=environment, stderr=err,
            )  # fmt: skip
        return Done(result, (folder / f"{method}.err").read_text())

    return two_at_a_time(run, (*METHODS, "none"))


@pytest.mark.parametrize("method", METHODS)
def test_phases_of_workers_and_threads_are_summed_apart(method: str, done: dict[str, Done]) -> None:
    result, err = done[method]
    assert err == ""
    assert result.exit_code == 0
    times = result.times
    assert times is not None
    assert times.steps == 6
    assert sum(times.whole.phases.values()) == times.whole.wall_s
    # A worker's phases are not the main thread's, which waits for them.
    assert set(times.whole.phases) >= {"data_wait", "forward", "backward", "optimizer", "other"}
    assert SLEEPS.keys().isdisjoint(times.whole.phases)
    assert set(times.other_threads) == {"uploader", DATALOADER_WORKERS}
    assert times.other_threads["uploader"].keys() == {"upload"}
    assert times.other_threads["uploader"]["upload"] >= 0.2
    found = times.other_threads[DATALOADER_WORKERS]
    assert set(found) == set(SLEEPS)
    for name, seconds in SLEEPS.items():
        assert found[name] >= seconds
    # The inner phase's sleep is not counted in the outer one as well.
    assert found["decode"] < SLEEPS["decode"] + SLEEPS["augment"]
    frames = [s.frames for s in result.stacks if s.thread == DATALOADER_WORKERS]
    assert any(f[1] == "augment" and "__getitem__" in f[-1] for f in frames if len(f) > 1), frames
    assert not any("_bootstrap" in frame for stack in frames for frame in stack)


def test_phases_without_workers_are_in_the_step(done: dict[str, Done]) -> None:
    result, _ = done["none"]
    assert result.times is not None
    calls = result.times.whole.calls
    assert calls["decode"] == calls["augment"] == calls["lookup"] == 24
    assert result.times.whole.phases["augment"] >= SLEEPS["augment"]
    assert set(result.times.other_threads) == {"uploader"}
