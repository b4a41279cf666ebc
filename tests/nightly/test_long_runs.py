"""What only shows after thousands of epochs: ``pytest -m nightly``."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

LOOK = """
import gc, json, os, time
import numpy as np, torch
from tfa_perf.config import ModelConfig, TrainConfig
from tfa_perf.data import WindowLoader
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.trainer import Trainer

X = np.random.default_rng(0).standard_normal((300, 4), dtype=np.float32)
y = (X[:, 0] > 0).astype(np.float32)

def look():
    gc.collect()
    with open("/proc/self/status") as status:
        rss = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return {"kB": rss, "files": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task"))}
"""


def looks(code):
    done = subprocess.run(
        [sys.executable, "-c", LOOK + textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_flat(early, late):
    assert late["kB"] <= 1.01 * early["kB"]
    assert (late["files"], late["threads"]) == (early["files"], early["threads"])


def test_2000_epochs():
    early, late = looks("""
        loader = WindowLoader(X, y, window=8, batch_size=64, shuffle=True)
        model = WindowEncoder(4, ModelConfig(d_model=8, nhead=2, num_layers=1, ffn_hidden=8))
        trainer = Trainer(model, loader, TrainConfig(epochs=2000, amp="off"), "cpu")
        for step in trainer.steps():
            if trainer.done % trainer.steps_per_epoch == 0:
                trainer.step.mean_loss()
                if step.epoch == 300:
                    print(json.dumps(look()))
        assert step.epoch == 1999
        print(json.dumps(look()))
    """)
    assert_flat(early, late)


def test_a_loader_abandoned_10000_times():
    early, late = looks("""
        loader = WindowLoader(X, y, window=8, batch_size=8, shuffle=True)
        ahead = 0
        for number in range(10_000):
            batches = iter(loader)
            for _ in range(4):
                next(batches)
                time.sleep(2e-4)
            ahead += len(os.listdir("/proc/self/task"))
            del batches
            if number == 1000:
                print(json.dumps(look()))
        # The loader's thread was there each time.
        assert ahead >= 10_000 * (look()["threads"] + 1) * 0.9
        print(json.dumps(look()))
    """)
    assert_flat(early, late)
