"""Peak memory of building, saving and loading features, each side in fresh processes."""

import pytest

from benchmarks.memory import available
from benchmarks.memory_cases import CASES

pytestmark = pytest.mark.skipif(
    not available(), reason="peak memory is read from Linux's /proc/self"
)


@pytest.mark.parametrize("case", CASES)
def test_memory(measure_memory, case):
    measure_memory(case)
