import numpy as np
import pytest

from benchmarks.memory import available, compare, in_fresh_process
from benchmarks.sizes import SIZES

needs_proc = pytest.mark.skipif(not available(), reason="needs Linux's /proc/self/clear_refs")


@needs_proc
def test_a_table_that_is_read_is_private_memory_and_a_mapped_one_is_not(tmp_path):
    # Large enough that pages of libraries, which the system takes back at will, do not matter.
    table_mb = SIZES["default"].cached * 55 * 4 / 2**20
    case = "cache load, every row read"
    before = in_fresh_process(case, "before", "default", tmp_path / "before")
    after = in_fresh_process(case, "after", "default", tmp_path / "after")
    compare(case, tmp_path / "before", tmp_path / "after")
    assert before["private_mb"] == pytest.approx(table_mb, rel=0.1)
    assert after["private_mb"] < table_mb / 10
    for found in (before, after):
        assert found["peak_mb"] >= 0.9 * table_mb


def test_what_ends_with_an_error_gives_no_number(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)cache fry, after: .*KeyError"):
        in_fresh_process("cache fry", "after", "small", tmp_path / "after")


@pytest.mark.parametrize("case", ["features", "cache save"])
def test_different_outputs_are_refused(tmp_path, case):
    table = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    for side, values in (("before", table), ("after", table), ("wrong", table + 0.1)):
        (tmp_path / side).mkdir()
        np.save(tmp_path / side / "made.npy", values)
    compare(case, tmp_path / "before", tmp_path / "after")
    with pytest.raises(AssertionError, match="made different tables"):
        compare(case, tmp_path / "before", tmp_path / "wrong")
