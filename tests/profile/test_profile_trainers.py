"""Training scripts of other libraries, as their users write them: steps and phases are found."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tfa_perf.profile.sampler import run_profiled
from tfa_perf.profile.steps import PhaseTimes

SCRIPTS = Path(__file__).parent / "scripts"
Train = Callable[..., PhaseTimes]


@pytest.fixture
def train(tmp_path: Path, environment: dict[str, str]) -> Train:
    def run(name: str, *args: str) -> PhaseTimes:
        for library in ("lightning", "transformers"):
            if library in name and importlib.util.find_spec(library) is None:
                pytest.skip(f"needs {library}")
        with (tmp_path / "err").open("w") as err:
            result = run_profiled(
                [str(SCRIPTS / name), *args], tmp_path / "out", sampler="none", cwd=tmp_path,
                env=environment, stdout=subprocess.DEVNULL, stderr=err,
            )  # fmt: skip
        assert result.exit_code == 0, (tmp_path / "err").read_text()
        assert result.times is not None
        assert sum(result.times.whole.phases.values()) == result.times.whole.wall_s
        assert sum(result.times.measured.phases.values()) == result.times.measured.wall_s
        return result.times

    return run


def test_stock_script_with_workers_scaler_and_accumulation(train: Train) -> None:
    times = train("train_stock.py", "spawn" if sys.platform == "darwin" else "fork")
    assert times.steps == 24
    calls = times.whole.calls
    # The scaler has unscale_, step and update.
    assert calls["optimizer"] == 3 * 24
    assert calls["forward"] == calls["backward"] == 48
    assert calls["validation"] == calls["loss_read"] == 48
    assert calls["clip"] == calls["zero_grad"] == 24
    assert calls["checkpoint"] == calls["logging"] == 2
    # Four passes: iter() and 24 batches and the end of each.
    assert calls["data_wait"] == 4 * 26


def test_lightning_runs_forward_and_backward_inside_the_optimizer_step(train: Train) -> None:
    times = train("train_lightning.py")
    assert times.steps == 32
    calls = times.measured.calls
    assert calls["optimizer"] == calls["clip"] == times.measured_steps
    assert calls["forward"] == calls["backward"] == 2 * times.measured_steps
    assert calls["logging"] >= 2 * times.measured_steps
    assert times.whole.calls["checkpoint"] == 2
    assert times.whole.calls["validation"] == 2 * 8 + 2  # two batches of sanity check
    assert {"data_wait", "zero_grad"} <= set(calls)
    assert "other" not in calls


def test_transformers_trainer_behind_accelerate(train: Train) -> None:
    times = train("train_transformers.py")
    assert times.steps == 24
    calls = times.measured.calls
    assert calls["optimizer"] == calls["clip"] == calls["zero_grad"] == times.measured_steps
    assert calls["forward"] == calls["backward"] == 2 * times.measured_steps
    assert times.whole.calls["validation"] == 2 * 12
    # What the trainer writes is one checkpoint, whatever it saves into it.
    assert times.whole.calls["checkpoint"] == 2
    assert times.whole.calls["logging"] >= 6
