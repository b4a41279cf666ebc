import subprocess
import sys

import numpy as np
import pytest
import torch

from tfa_perf.claims.fresh import ChildFailed, in_fresh_process, in_fresh_processes
from tfa_perf.claims.workload import Workload

PEAK = "from tfa_perf.claims.fresh import peak_bytes, current_bytes\nprint(peak_bytes())"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    Workload.prepare("synthetic:600", torch.device("cpu"), folder, quick=True)
    return folder


def test_a_peak_is_that_of_the_process_not_of_the_one_that_started_it():
    ours = np.ones(1 << 30, np.uint8)
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(done.stdout) < ours.nbytes // 2


def test_a_peak_outlives_the_memory():
    code = "import numpy as np\nx = np.ones(300_000_000, np.uint8)\ndel x\n" + PEAK
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 300_000_000


def test_both_sides_of_training_and_cache_end_with_the_same_outputs(folder):
    for task in ("training-memory", "cache-memory"):
        before, after = in_fresh_processes(task, folder, ["before", "after"], at_once=2)
        assert after["output"] == pytest.approx(before["output"], rel=1e-4)
        assert before["bytes"] > 0 and after["bytes"] > 0
    assert not [path for path in folder.iterdir() if path.is_dir()]


def test_a_process_that_fails_says_why(folder):
    with pytest.raises(ChildFailed, match="KeyError"):
        in_fresh_process("cache-memory", folder, "sideways")
