import os
import subprocess
import sys

import numba
import pytest
import torch

from tfa_perf.config import ConfigError
from tfa_perf.data.bars import load_bars
from tfa_perf.train.run import train
from tfa_perf.train.threads import torch_threads

LIMIT = numba.config.NUMBA_NUM_THREADS


@pytest.fixture(autouse=True)
def two_threads():
    """Another count than those that the tests ask for, whatever the environment says."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def counts():
    return torch.get_num_threads(), numba.get_num_threads()


@pytest.mark.parametrize("threads", [None, 1])
def test_the_counts_come_back_after_an_error_too(threads):
    before = counts()
    with pytest.raises(KeyError), torch_threads(threads):
        assert torch.get_num_threads() == (threads or before[0])
        raise KeyError
    assert counts() == before


def test_more_threads_than_cpus_are_refused_and_change_nothing():
    before = counts()
    with (
        pytest.raises(ConfigError, match=rf"train.threads: .* {LIMIT + 1}; allowed: 1\.\.{LIMIT}"),
        torch_threads(LIMIT + 1),
    ):
        pass
    assert counts() == before


def test_a_run_uses_its_threads_and_gives_them_back(tiny_config):
    seen = []
    config = tiny_config("train.threads=1")
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, _: seen.append(torch.get_num_threads())
    )
    before = counts()
    try:
        train(config, load_bars("synthetic:1500"), torch.device("cpu"), max_steps=1)
    finally:
        hook.remove()
    assert set(seen) == {1}
    assert counts() == before


def test_the_count_is_kept_when_numba_starts_its_pool():
    """Numba's OpenMP pool, started in the middle of a run, must not change torch's count."""
    code = """
import numpy as np, torch
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.threads import torch_threads
X = np.zeros((5000, 8), np.float32)
torch.set_num_threads(2)
with torch_threads(1):
    next(iter(WindowLoader(X, X[:, 0].copy(), window=16, num_threads=1)))
    next(iter(WindowLoader(X, X[:, 0].copy(), window=16)))
    assert torch.get_num_threads() == 1
assert torch.get_num_threads() == 2
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, timeout=120)
