from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TRAIN = """
import sys
import time

import torch
from torch.utils.data import DataLoader, Dataset


class Rows(Dataset):
    def __len__(self):
        return 30

    def __getitem__(self, index):
        time.sleep(0.008)
        return torch.full((32,), float(index)), torch.ones(1)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(32, 1)

    def forward(self, x):
        time.sleep(0.012)
        return self.layer(x)


class SlowGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        time.sleep(0.01)
        return grad


def main():
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    criterion = torch.nn.MSELoss()
    for x, y in DataLoader(Rows(), batch_size=1):
        x.to("meta")
        optimizer.zero_grad()
        loss = criterion(SlowGrad.apply(model(x)), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        print(f"{loss.item():.6f}")
        time.sleep(0.006)
    torch.save(model.state_dict(), sys.argv[1])


if __name__ == "__main__":
    main()
"""


@pytest.fixture
def train_script(tmp_path: Path) -> Path:
    """A stock torch script of 30 steps, each about 8 ms data, 12 forward, 10 backward, 6 other."""
    path = tmp_path / "train.py"
    path.write_text(TRAIN)
    return path


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "script.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def profile_command(
    tmp_path: Path, environment: dict[str, str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``python -m tfa_perf.profile --out tmp_path/out ARGS``."""

    def run(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tfa_perf.profile", "--out", str(tmp_path / "out"), *args],
            capture_output=True,
            text=True,
            timeout=100,
            cwd=tmp_path,
            env=options.pop("env", environment),
            **options,
        )

    return run


@pytest.fixture
def results(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    def read() -> dict[str, Any]:
        data: dict[str, Any] = json.loads((tmp_path / "out" / "run.json").read_text())
        return data

    return read
