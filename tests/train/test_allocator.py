import os
import platform
import subprocess
import sys

import pytest

from tfa_perf.train.allocator import keep_freed_memory

# Nine buffers that come and go together, as those of a micro-batch do.
FAULTS = """
import resource, torch
{before}
def rounds(n):
    for _ in range(n):
        buffers = [torch.zeros(5_000_000).add_(1) for _ in range(9)]
        del buffers
rounds(3)
start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
"""
KEEP = "from tfa_perf.train.allocator import keep_freed_memory; print(keep_freed_memory())"
STEP = """
from tfa_perf.train import make_step
model = torch.nn.Linear(2, 1)
make_step(model, torch.optim.SGD(model.parameters()), [])
"""
MOST = 41_000

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc's malloc")


def run(before, **environment):
    malloc = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    inherited = {k: v for k, v in os.environ.items() if k not in malloc}
    result = subprocess.run(
        [sys.executable, "-c", FAULTS.format(before=before)],
        env=inherited | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    *said, faults = result.stdout.split()
    return said, int(faults)


@glibc
def test_freed_buffers_come_back_without_page_faults():
    said, kept = run(KEEP)
    assert said == ["True"]
    # Half of what malloc left alone faults on: where something is mapped in the heap's way, one of
    # the nine buffers comes anew in each round.
    assert kept < MOST
    _, with_step = run(STEP)
    assert with_step < MOST


@glibc
def test_what_the_environment_says_stands():
    said, faults = run(KEEP, MALLOC_TRIM_THRESHOLD_="1000000")
    assert said == ["False"]
    assert faults > 10_000


@pytest.mark.skipif(platform.libc_ver()[0] == "glibc", reason="glibc's malloc")
def test_another_malloc_is_left_alone():
    assert keep_freed_memory() is False
