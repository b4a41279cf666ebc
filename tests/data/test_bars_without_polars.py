"""A machine without polars: generated bars still train, files say what is missing."""

import json
import subprocess
import sys

import pytest

BLOCKED = """
import contextlib, io, json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "polars":
            raise ModuleNotFoundError("No module named 'polars'", name="polars")

sys.meta_path.insert(0, Missing())
from tfa_perf.train.__main__ import main
ended = {}
for bars in ("synthetic:3000", "sample", "bars.csv"):
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main([*sys.argv[1:], "--bars", bars])
    ended[bars] = code, errors.getvalue()
json.dump(ended, open("ended.json", "w"))
"""
TINY = ("model.d_model=8", "model.nhead=2", "model.num_layers=1", "model.ffn_hidden=8")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Exit code and errors of training on bars of each kind, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "bars.csv").write_text("ts,open,high,low,close,volume\n")
    keys = [part for key in TINY for part in ("--set", key)]
    # One process for all: most of its time is imports.
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, "--device", "cpu", "--steps", "2", *keys,
         "--out", "model.pt"],
        capture_output=True, text=True, timeout=120, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "ended.json").read_text()), folder


def test_synthetic_bars_train_without_polars(ended):
    ends, folder = ended
    assert ends["synthetic:3000"][0] == 0, ends
    assert (folder / "model.pt").exists()


@pytest.mark.parametrize("source", ["sample", "bars.csv"])
def test_a_file_names_the_package_that_reads_it(ended, source):
    code, errors = ended[0][source]
    assert code == 2
    assert "polars is needed" in errors and "pip install polars" in errors
    assert errors.count("\n") == 1
