"""Advice after the device's memory ran out."""

import re
import subprocess
import sys

import pytest
import torch

from tfa_perf.config import TrainConfig
from tfa_perf.train.memory import candidates, first_fitting, out_of_memory

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_candidates_take_less_memory_and_keep_the_windows_of_a_step():
    train = TrainConfig(batch_size=72, accumulation=2)
    assert list(candidates(train)) == [
        {"micro_batch": 64},
        {"micro_batch": 32},
        {"micro_batch": 16},
        {"batch_size": 36, "accumulation": 4},
        {"batch_size": 18, "accumulation": 8},
    ]
    assert next(candidates(TrainConfig(batch_size=1024))) == {"micro_batch": 512}
    assert next(candidates(TrainConfig(batch_size=1024, micro_batch=33))) == {"micro_batch": 32}
    assert list(candidates(TrainConfig(batch_size=1))) == []
    assert list(candidates(TrainConfig(batch_size=8, micro_batch=1))) == []


# The system itself refuses the memory here: no more than 400 MB on top of what is in use.
TRIAL = """
import resource
import numpy as np, torch
from tfa_perf.train.memory import first_fitting

with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000,) * 2)
tried = []

def trial(megabytes):
    tried.append(megabytes)
    try:
        held = [np.ones(1_000_000, np.uint8) for _ in range(megabytes)]
    except MemoryError as error:
        raise RuntimeError("broken off") from torch.OutOfMemoryError(str(error))

print(first_fitting(trial, [2048, 1024, 512, 256, 128]), first_fitting(trial, [4096, 1000]), tried)
"""


def test_the_first_that_fits_is_found_and_failed_trials_leave_nothing():
    done = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "256 None [2048, 1024, 512, 256, 4096, 1000]"


def test_an_error_of_another_kind_passes():
    def trial(option):
        raise RuntimeError(f"{option} is not about memory")

    with pytest.raises(RuntimeError, match="1 is not about memory"):
        first_fitting(trial, [1, 2])


def test_a_lack_of_memory_is_known_through_the_errors_that_it_causes():
    said = "CUDA out of memory. Tried to allocate 2 GiB. And much more"
    try:
        try:
            raise torch.OutOfMemoryError(said)
        except RuntimeError:
            raise ValueError("capture was invalidated")  # noqa: B904
    except ValueError as error:
        assert out_of_memory(error) == "CUDA out of memory"
    assert out_of_memory(RuntimeError("CUDA error: out of memory\nmore")) is not None
    assert out_of_memory(RuntimeError("cublas: CUBLAS_STATUS_ALLOC_FAILED")) is not None
    assert out_of_memory(RuntimeError("shapes differ")) is None


LIMITED = """
import sys
import torch
from tfa_perf.train.__main__ import main
total = torch.cuda.get_device_properties(0).total_memory
torch.cuda.set_per_process_memory_fraction(float(sys.argv[1]) * 2**20 / total)
sys.exit(main(sys.argv[2:]))
"""
LARGE = [
    "model.d_model=128",
    "model.nhead=8",
    "model.num_layers=3",
    "model.ffn_hidden=512",
    "train.batch_size=16384",
    "train.accumulation=1",
]


def train_within(megabytes, *settings):
    command = [sys.executable, "-c", LIMITED, str(megabytes), "--device", "cuda", "--steps", "4"]
    command += ["--config", "tuned", "--bars", "synthetic:60000"]
    command += [part for setting in (*LARGE, *settings) for part in ("--set", setting)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


@needs_cuda
@pytest.mark.parametrize("graph", ["false", "true"])
@pytest.mark.parametrize("megabytes", [700, 1500, 3000])
def test_the_settings_that_are_named_fit_a_new_process(graph, megabytes):
    failed = train_within(megabytes, f"train.graph={graph}")
    assert failed.returncode == 1, failed.stderr
    assert failed.stderr.count("\n") == 1, failed.stderr
    named = re.findall(r"--set (train\.\w+=\d+)", failed.stderr)
    assert named, failed.stderr
    done = train_within(megabytes, f"train.graph={graph}", *named)
    assert done.returncode == 0, (failed.stderr, done.stderr)


@needs_cuda
def test_where_nothing_fits_it_says_so():
    failed = train_within(30, "train.graph=false")
    assert failed.returncode == 1, failed.stderr
    assert "nor does any smaller one that was tried" in failed.stderr
    assert "Traceback" not in failed.stderr
