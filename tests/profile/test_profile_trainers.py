"""Training scripts of other libraries, as their users write them: steps and phases are found."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tfa_perf.profile.sampler import ProfileResult, run_profiled
from tfa_perf.profile.steps import PhaseTimes

SCRIPTS = Path(__file__).parent / "scripts"
LIBRARIES = {"train_lightning.py": "lightning", "train_transformers.py": "transformers"}
Train = Callable[[str], PhaseTimes]


class Trained(NamedTuple):
    result: ProfileResult
    err: str


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    environment: dict[str, str],
    two_at_a_time: Callable[..., dict[str, Trained]],
) -> dict[str, Trained]:
    """Each script whose library is there, run from first line to last."""
    method = "spawn" if sys.platform == "darwin" else "fork"
    commands = {"train_stock.py": [method], "train_lightning.py": [], "train_transformers.py": []}
    folders = {name: tmp_path_factory.mktemp(name) for name in commands}

    def run(name: str) -> Trained:
        folder = folders[name]
        with (folder / "err").open("w") as err:
            result = run_profiled(
                [str(SCRIPTS / name), *commands[name]], folder / "out", sampler="none", cwd=folder,
                env=environment, stdout=subprocess.DEVNULL, stderr=err,
            )  # fmt: skip
        return Trained(result, (folder / "err").read_text())

    there = [n for n in commands if n not in LIBRARIES or importlib.util.find_spec(LIBRARIES[n])]
    return two_at_a_time(run, there)


@pytest.fixture
def train(trained: dict[str, Trained]) -> Train:
    def times(name: str) -> PhaseTimes:
        if name not in trained:
            pytest.skip(f"needs {LIBRARIES[name]}")
        result, err = trained[name]
        assert result.exit_code == 0, err
        assert result.times is not None
        assert sum(result.times.whole.phases.values()) == result.times.whole.wall_s
        assert sum(result.times.measured.phases.values()) == result.times.measured.wall_s
        return result.times

    return times


def test_stock_script_with_workers_scaler_and_accumulation(train: Train) -> None:
    times = train("train_stock.py")
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
