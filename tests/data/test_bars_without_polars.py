"""A machine without polars: generated bars still train, files say what is missing."""

import subprocess
import sys

import pytest

BLOCKED = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "polars":
            raise ModuleNotFoundError("No module named 'polars'", name="polars")

sys.meta_path.insert(0, Missing())
from tfa_perf.train.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
TINY = ("model.d_model=8", "model.nhead=2", "model.num_layers=1", "model.ffn_hidden=8")


def train(*args, folder):
    keys = [part for key in TINY for part in ("--set", key)]
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, "--device", "cpu", "--steps", "2", *keys, *args],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )


def test_synthetic_bars_train_without_polars(tmp_path):
    done = train("--bars", "synthetic:3000", "--out", "model.pt", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.pt").exists()


@pytest.mark.parametrize("source", ["sample", "bars.csv"])
def test_a_file_names_the_package_that_reads_it(tmp_path, source):
    (tmp_path / "bars.csv").write_text("ts,open,high,low,close,volume\n")
    done = train("--bars", source, folder=tmp_path)
    assert done.returncode == 2
    assert "polars is needed" in done.stderr and "pip install polars" in done.stderr
    assert done.stderr.count("\n") == 1
