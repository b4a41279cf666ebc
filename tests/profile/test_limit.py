from __future__ import annotations

from pathlib import Path

import pytest

from tfa_perf.profile.limit import StepLimit
from tfa_perf.profile.sampler import run_profiled


def test_it_ends_with_the_step_that_reaches_the_limit() -> None:
    limit = StepLimit(steps=3)
    limit.count()
    limit.count()
    # A program that goes on all the same is stopped again.
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            limit.count()
        assert ended.value.code == 0


def test_seconds_let_three_steps_be_done() -> None:
    limit = StepLimit(seconds=1e-9)
    limit.count()
    limit.count()
    with pytest.raises(SystemExit):
        limit.count()


def test_without_a_limit_nothing_ends() -> None:
    limit = StepLimit()
    assert not limit
    for _ in range(1000):
        limit.count()


@pytest.mark.parametrize(
    "given", [{"max_steps": -1}, {"max_seconds": -1.0}, {"max_seconds": float("inf")}]
)
def test_bad_limits_are_refused(given: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_steps, max_seconds: numbers from 0"):
        run_profiled(["x.py"], tmp_path / "out", **given)  # type: ignore[arg-type]
